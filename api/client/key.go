package client

import (
	"context"
	"crypto"
	"crypto/x509"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// BlockRequest names a key in exactly one way and says what happened.
type BlockRequest struct {
	KeyHash        pki.KeyHash // of a certificate of the server
	SPKI           []byte      // DER
	CertificatePEM []byte      // a certificate with the key
	ProofCSRPEM    []byte      // signed with the key, common name "Signet key compromise"
	PrivateKeyPEM  []byte      // the key itself; the server does not keep it
	Challenge      *Challenge  // signed with the key
	Comment        string      // what happened; required unless the key itself is the proof
	InvalidityAt   time.Time   // invalidity date of the revocations; zero: not stated
	WaitPublished  bool        // wait until every live instance has published it
}

// Challenge is the time, signed with a key (pki.Compromise).
type Challenge struct {
	SPKI      []byte    // DER
	At        time.Time // seconds count; at most five minutes from now
	Signature []byte
}

// SignChallenge proves possession of a key, which is not sent.
func SignChallenge(key crypto.Signer, at time.Time) (*Challenge, error) {
	const op = "sign challenge"
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	signature, err := pki.Compromise{SPKI: spki, At: at}.Sign(key)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return &Challenge{spki, at, signature}, nil
}

// Blocked is the result of blocking a key.
type Blocked struct {
	answer
	KeyHash     pki.KeyHash
	Proof       string    // "statement", "signed-request", "private-key", "signed-challenge"
	Revoked     uint64    // certificates that this call revoked, or changed the reason of
	Sequence    uint64    // entry of the ledger up to which all of that is done
	Job         string    // the job that revokes the rest; empty: there is no rest
	Repeated    bool      // the key was already blocked
	PublishedAt time.Time // of all entries up to Sequence; zero: not waited for, or not in time
}

// BlockKey blocks a key and revokes every unexpired certificate with it.
func (c *Client) BlockKey(ctx context.Context, q BlockRequest) (*Blocked, error) {
	m := signetv1.BlockKeyRequest_builder{
		SpkiDer:        q.SPKI,
		CertificatePem: optional(string(q.CertificatePEM)),
		ProofCsrPem:    optional(string(q.ProofCSRPEM)),
		PrivateKeyPem:  optional(string(q.PrivateKeyPEM)),
		Comment:        optional(q.Comment),
		InvalidityAt:   timestamp(q.InvalidityAt),
		WaitFor:        waitFor(q.WaitPublished),
	}
	if q.Challenge != nil {
		m.SignedChallenge = signetv1.SignedChallenge_builder{SpkiDer: q.Challenge.SPKI, SignedAt: &timestamppb.Timestamp{Seconds: q.Challenge.At.Unix()}, Signature: q.Challenge.Signature}.Build()
	}
	if q.KeyHash != (pki.KeyHash{}) {
		m.KeyHash = new(q.KeyHash.String())
	}
	a, err := invoke(ctx, c, "block key", c.keys.BlockKey, m.Build())
	if err != nil {
		return nil, err
	}
	hash, err := pki.ParseKeyHash(a.GetKey().GetKeyHash())
	if err != nil {
		return nil, unreadable(err)
	}
	return &Blocked{answer{a}, hash, proofName(a.GetProof()), a.GetRevoked(), a.GetSequence(), a.GetJob(), a.GetRepeated(), instant(a.GetPublishedAt())}, nil
}

var proofNames = [...]string{"unknown", "statement", "signed-request", "private-key", "signed-challenge"}

func proofName(p signetv1.BlockProof) string {
	if p > 0 && int(p) < len(proofNames) {
		return proofNames[p]
	}
	return proofNames[0]
}

// BlockedKey is a key that gets no certificate, as it was blocked the first time.
type BlockedKey struct {
	answer
	KeyHash   pki.KeyHash
	Proof     string // as in Blocked
	Comment   string // what happened
	BlockedBy string // principal
	BlockedAt time.Time
}

// BlockedKeys returns one page of the blocked keys, by hash, for administrators and auditors.
func (c *Client) BlockedKeys(ctx context.Context, p Page) (*List[BlockedKey], error) {
	a, err := invoke(ctx, c, "list blocked keys", c.keys.ListBlockedKeys, signetv1.ListBlockedKeysRequest_builder{PageSize: p.size(), PageToken: optional(p.Token)}.Build())
	if err != nil {
		return nil, err
	}
	list := &List[BlockedKey]{answer: answer{a}, Next: a.GetNextPageToken()}
	for _, m := range a.GetKeys() {
		hash, err := pki.ParseKeyHash(m.GetKeyHash())
		if err != nil {
			return nil, unreadable(err)
		}
		list.Items = append(list.Items, BlockedKey{answer{m}, hash, proofName(m.GetProof()), m.GetComment(), m.GetBlockedBy(), instant(m.GetBlockedAt())})
	}
	return list, nil
}

// AllBlockedKeys returns every blocked key, by hash. An error ends the sequence.
func (c *Client) AllBlockedKeys(ctx context.Context) iter.Seq2[BlockedKey, error] {
	return all(func(p Page) (*List[BlockedKey], error) { return c.BlockedKeys(ctx, p) })
}

// KeyIsBlocked asks whether a key is blocked.
func (c *Client) KeyIsBlocked(ctx context.Context, hash pki.KeyHash) (bool, error) {
	_, err := invoke(ctx, c, "get blocked key", c.keys.GetBlockedKey, signetv1.GetBlockedKeyRequest_builder{KeyHash: new(hash.String())}.Build())
	if err != nil && pki.KindOf(err) == pki.KindNotFound {
		return false, nil
	}
	return err == nil, err
}
