package rpc

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// CompromiseName is the common name of a CSR that proves the compromise of the key that signed it. No one requests a
// certificate with this name.
const CompromiseName = "Signet key compromise"

const maxComment = 1000

// The limits of a key that proves its compromise. The cost of a signature grows with the cube of the key's length: with
// 64 Ki bits it takes a minute. maxPrivateKey is in octets of DER.
const (
	maxRSABits    = 8192
	maxPrivateKey = 16 << 10
)

// keyService implements signetv1.KeyServiceServer.
type keyService struct {
	signetv1.UnimplementedKeyServiceServer
	api *API
}

// BlockKey blocks a key and revokes its certificates.
func (s *keyService) BlockKey(ctx context.Context, m *signetv1.BlockKeyRequest) (*signetv1.BlockKeyResponse, error) {
	const op = "block key"
	wait, err := s.api.waits(op, m.GetWaitFor())
	if err != nil {
		return nil, err
	}
	block := revocation.KeyBlock{Comment: m.GetComment()}
	if block.InvalidityAt, err = timeFrom(op, "invalidity_at", m.GetInvalidityAt()); err != nil {
		return nil, err
	}
	switch {
	case block.InvalidityAt.After(s.api.config.Now()):
		return nil, invalid(op, "invalidity_at", "it is in the future")
	case len(block.Comment) > maxComment:
		return nil, invalid(op, "comment", "at most %d characters", maxComment)
	}
	// A caller that proves to hold the key may end its use. Any other caller must be an administrator, whose word
	// counts, and must be one before the server looks for the key.
	grant, key, err := s.proved(caller(ctx), op, m)
	if err != nil {
		return nil, err
	}
	if key == nil {
		if grant, err = caller(ctx).Authorize(auth.ActionManage, ""); err != nil {
			return nil, err
		}
		if block.Comment == "" {
			return nil, invalid(op, "comment", "say what happened: without the key itself it is the only record of why")
		}
		if key, err = s.named(ctx, op, m); err != nil {
			return nil, err
		}
	}
	block.SPKI, block.Material, block.Proof = key.hash, pki.HashKeyMaterial(key.public), key.proof
	receipt, err := s.api.config.Ledger.BlockKey(ctx, grant, block)
	if err != nil {
		return nil, err
	}
	b := signetv1.BlockKeyResponse_builder{
		Key:      signetv1.BlockedKey_builder{KeyHash: new(block.SPKI.String())}.Build(),
		Proof:    new(proofs[block.Proof]),
		Revoked:  new(uint64(receipt.Revoked)),
		Sequence: &receipt.Seq,
		Repeated: &receipt.Already,
	}
	if receipt.Job != (revocation.JobID{}) {
		b.Job = new(receipt.Job.String())
	}
	if wait {
		b.PublishedAt = timestamp(s.api.published(ctx, nil, receipt.Seq))
	}
	return b.Build(), nil
}

// GetBlockedKey returns whether a key is blocked.
func (s *keyService) GetBlockedKey(ctx context.Context, m *signetv1.GetBlockedKeyRequest) (*signetv1.GetBlockedKeyResponse, error) {
	const op = "get blocked key"
	if _, err := caller(ctx).AuthorizeOwn(auth.ActionRead); err != nil {
		return nil, err
	}
	hash, err := keyHashFrom(op, "key_hash", m.GetKeyHash())
	if err != nil {
		return nil, err
	}
	blocked, err := s.api.config.BlockedKeys.BlockedKeys(ctx, []pki.KeyHash{hash})
	if err != nil {
		return nil, err
	}
	if len(blocked) == 0 {
		return nil, pki.Errorf(pki.KindNotFound, op, "the key is not blocked").InField("key_hash")
	}
	return signetv1.GetBlockedKeyResponse_builder{Key: signetv1.BlockedKey_builder{KeyHash: new(hash.String())}.Build()}.Build(), nil
}

// ListBlockedKeys returns one page of blocked keys. A page token is the last hash of the page before.
func (s *keyService) ListBlockedKeys(ctx context.Context, m *signetv1.ListBlockedKeysRequest) (*signetv1.ListBlockedKeysResponse, error) {
	const op = "list blocked keys"
	if _, err := caller(ctx).Authorize(auth.ActionRead, ""); err != nil {
		return nil, err
	}
	limit, err := pageFrom(op, m.GetPageSize())
	if err != nil {
		return nil, err
	}
	var after pki.KeyHash
	if m.GetPageToken() != "" {
		if after, err = keyHashFrom(op, "page_token", m.GetPageToken()); err != nil {
			return nil, err
		}
	}
	keys, err := s.api.config.BlockedKeys.ListBlockedKeys(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	b := signetv1.ListBlockedKeysResponse_builder{}
	for _, key := range keys {
		b.Keys = append(b.Keys, signetv1.BlockedKey_builder{KeyHash: new(key.SPKI.String()), Proof: new(proofs[key.Proof]), Comment: optional(key.Comment),
			BlockedBy: &key.Actor, BlockedAt: timestamppb.New(key.At)}.Build())
	}
	if len(keys) == limit {
		b.NextPageToken = new(keys[limit-1].SPKI.String())
	}
	return b.Build(), nil
}

var proofs = map[revocation.Proof]signetv1.BlockProof{
	revocation.ProofOfficer:    signetv1.BlockProof_BLOCK_PROOF_STATEMENT,
	revocation.ProofCSR:        signetv1.BlockProof_BLOCK_PROOF_SIGNED_REQUEST,
	revocation.ProofPrivateKey: signetv1.BlockProof_BLOCK_PROOF_PRIVATE_KEY,
	revocation.ProofChallenge:  signetv1.BlockProof_BLOCK_PROOF_SIGNED_CHALLENGE,
}

// compromised is a public key with the proof of its compromise.
type compromised struct {
	public crypto.PublicKey
	hash   pki.KeyHash // of the encoding in our certificates, whatever was sent
	proof  revocation.Proof
}

func newCompromised(op, field string, public crypto.PublicKey, proof revocation.Proof) (*compromised, error) {
	hash, err := pki.HashPublicKey(public)
	if err != nil {
		return nil, invalid(op, field, "a key of this kind or encoding is in no certificate of ours").
			WithHint("of the encodings of one key, send the ordinary one: rsaEncryption, or a named curve and an uncompressed point")
	}
	return &compromised{public, hash, proof}, nil
}

// proved returns the key if the request itself proves its compromise, and nil if the request does not claim to.
func (s *keyService) proved(p auth.Principal, op string, m *signetv1.BlockKeyRequest) (auth.Grant, *compromised, error) {
	var key *compromised
	var err error
	switch m.WhichKey() {
	case signetv1.BlockKeyRequest_ProofCsrPem_case:
		key, err = signedProof(op, m.GetProofCsrPem())
	case signetv1.BlockKeyRequest_PrivateKeyPem_case:
		key, err = shownKey(op, m.GetPrivateKeyPem())
	case signetv1.BlockKeyRequest_SignedChallenge_case:
		key, err = signedChallenge(op, m.GetSignedChallenge(), s.api.config.Now())
	}
	if key == nil || err != nil {
		return auth.Grant{}, nil, err
	}
	return p.HoldsKey(key.hash.String()), key, nil
}

// signedProof verifies the signature of a CSR whose common name states its purpose.
func signedProof(op, text string) (*compromised, error) {
	const field = "proof_csr_pem"
	der, err := derFrom(op, field, text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, invalid(op, field, "%w", err)
	}
	if err := checkLength(op, field, csr.PublicKey); err != nil {
		return nil, err
	}
	if csr.Subject.CommonName != CompromiseName {
		return nil, invalid(op, field, "its common name is not %q: it may be an ordinary request that somebody copied", CompromiseName)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, invalid(op, field, "%w", err)
	}
	return newCompromised(op, field, csr.PublicKey, revocation.ProofCSR)
}

// signedChallenge verifies a signature over the time.
func signedChallenge(op string, m *signetv1.SignedChallenge, now time.Time) (*compromised, error) {
	const field = "signed_challenge"
	public, err := x509.ParsePKIXPublicKey(m.GetSpkiDer())
	if err != nil {
		return nil, invalid(op, field, "%w", err)
	}
	if err := checkLength(op, field, public); err != nil {
		return nil, err
	}
	challenge := pki.Compromise{SPKI: m.GetSpkiDer(), At: m.GetSignedAt().AsTime()}
	if err := challenge.Verify(public, m.GetSignature(), now); err != nil {
		return nil, invalid(op, field, "%w", err)
	}
	return newCompromised(op, field, public, revocation.ProofChallenge)
}

// shownKey parses a private key. Errors do not repeat what was sent.
func shownKey(op, text string) (*compromised, error) {
	const field = "private_key_pem"
	der, err := derFrom(op, field, text, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	if len(der) > maxPrivateKey {
		return nil, invalid(op, field, "%d octets: at most %d", len(der), maxPrivateKey)
	}
	signer, err := keys.ParsePrivate(der)
	if err != nil {
		return nil, invalid(op, field, "not a private key in PKCS #8, PKCS #1 or SEC 1 without a password")
	}
	if err := checkLength(op, field, signer.Public()); err != nil {
		return nil, err
	}
	if err := holds(signer); err != nil {
		return nil, invalid(op, field, "it is not the private half of its public key")
	}
	return newCompromised(op, field, signer.Public(), revocation.ProofPrivateKey)
}

// checkLength is called before a key is used for anything.
func checkLength(op, field string, public crypto.PublicKey) error {
	if key, ok := public.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return invalid(op, field, "an RSA key of %d bits: at most %d", key.N.BitLen(), maxRSABits).
			WithHint("have an administrator block it by its certificate")
	}
	return nil
}

// holds signs and verifies. The encodings contain the public key beside the private one, and it may be a stranger's.
func holds(signer crypto.Signer) error {
	hash := crypto.SHA256
	switch keys.AlgorithmOf(signer.Public()) {
	case keys.Ed25519, keys.MLDSA44, keys.MLDSA65, keys.MLDSA87:
		hash = 0 // the digest is the message
	}
	digest := sha256.Sum256([]byte(CompromiseName))
	signature, err := signer.Sign(rand.Reader, digest[:], hash)
	if err != nil {
		return err
	}
	if !keys.Verify(signer.Public(), hash, digest[:], digest[:], signature) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// named returns a key that an administrator names.
func (s *keyService) named(ctx context.Context, op string, m *signetv1.BlockKeyRequest) (*compromised, error) {
	switch m.WhichKey() {
	case signetv1.BlockKeyRequest_KeyHash_case:
		return s.recorded(ctx, op, m.GetKeyHash())
	case signetv1.BlockKeyRequest_SpkiDer_case:
		public, err := x509.ParsePKIXPublicKey(m.GetSpkiDer())
		if err != nil {
			return nil, invalid(op, "spki_der", "%w", err)
		}
		return newCompromised(op, "spki_der", public, revocation.ProofOfficer)
	case signetv1.BlockKeyRequest_CertificatePem_case:
		der, err := derFrom(op, "certificate_pem", m.GetCertificatePem(), "CERTIFICATE")
		if err != nil {
			return nil, err
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, invalid(op, "certificate_pem", "%w", err)
		}
		return newCompromised(op, "certificate_pem", certificate.PublicKey, revocation.ProofOfficer)
	}
	return nil, invalid(op, "key", "which key?")
}

// recorded returns the key with a hash, from a recorded certificate: blocking needs the key itself.
func (s *keyService) recorded(ctx context.Context, op, text string) (*compromised, error) {
	hash, err := keyHashFrom(op, "key_hash", text)
	if err != nil {
		return nil, err
	}
	grant, err := caller(ctx).Authorize(auth.ActionRead, "")
	if err != nil {
		return nil, err
	}
	page, err := s.api.config.Authority.List(ctx, grant, inventory.Filter{KeyHash: hash}, "", 1)
	if err != nil {
		return nil, err
	}
	if len(page.Certificates) == 0 {
		return nil, pki.Errorf(pki.KindNotFound, op, "no certificate has this key").InField("key_hash").
			WithHint("send the public key itself (spki_der) to block a key that was never certified here")
	}
	certificate, err := x509.ParseCertificate(page.Certificates[0].DER)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return newCompromised(op, "key_hash", certificate.PublicKey, revocation.ProofOfficer)
}
