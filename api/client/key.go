package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// BlockRequest names a key in exactly one way and says what happened.
type BlockRequest struct {
	KeyHash        pki.KeyHash // of a certificate of the server
	SPKI           []byte      // DER
	CertificatePEM string      // a certificate with the key
	ProofCSRPEM    string      // signed with the key, common name "Signet key compromise"
	PrivateKeyPEM  string      // the key itself; the server does not keep it
	Statement      string      // required unless the key itself is the proof
}

// BlockedKey is a key that gets no certificate.
type BlockedKey struct {
	answer
	KeyHash      pki.KeyHash
	MaterialHash string // hexadecimal
	Proof        string // "statement", "signed-request", "private-key"
	BlockedAt    time.Time
	Actor        string
}

// Blocked tells what blocking a key did.
type Blocked struct {
	answer
	Key      BlockedKey
	Revoked  uint64 // certificates that this call revoked
	Sequence uint64 // last entry of the ledger that it made; 0: none
	Job      string // revokes the rest; empty: there is no rest
	Repeated bool   // it was blocked already
}

// BlockKey blocks a key and revokes every unexpired certificate with it.
func (c *Client) BlockKey(ctx context.Context, q BlockRequest) (*Blocked, error) {
	m := signetv1.BlockKeyRequest_builder{
		SpkiDer:        q.SPKI,
		CertificatePem: optional(q.CertificatePEM),
		ProofCsrPem:    optional(q.ProofCSRPEM),
		PrivateKeyPem:  optional(q.PrivateKeyPEM),
		Statement:      optional(q.Statement),
	}
	if q.KeyHash != (pki.KeyHash{}) {
		m.KeyHash = new(q.KeyHash.String())
	}
	a, err := invoke(ctx, c, "block key", c.keys.BlockKey, m.Build())
	if err != nil {
		return nil, err
	}
	key, err := blockedKeyFrom(a.GetKey())
	if err != nil {
		return nil, err
	}
	return &Blocked{answer{a}, key, a.GetRevoked(), a.GetSequence(), a.GetJob(), a.GetRepeated()}, nil
}

// BlockedKey returns a blocked key, or an error of pki.KindNotFound.
func (c *Client) BlockedKey(ctx context.Context, hash pki.KeyHash) (*BlockedKey, error) {
	a, err := invoke(ctx, c, "get blocked key", c.keys.GetBlockedKey, signetv1.GetBlockedKeyRequest_builder{KeyHash: new(hash.String())}.Build())
	if err != nil {
		return nil, err
	}
	key, err := blockedKeyFrom(a.GetKey())
	if err != nil {
		return nil, err
	}
	return &key, nil
}

var proofNames = [...]string{"unknown", "statement", "signed-request", "private-key"}

func blockedKeyFrom(m *signetv1.BlockedKey) (BlockedKey, error) {
	hash, err := pki.ParseKeyHash(m.GetKeyHash())
	if err != nil {
		return BlockedKey{}, unreadable(err)
	}
	proof := proofNames[0]
	if p := m.GetProof(); p > 0 && int(p) < len(proofNames) {
		proof = proofNames[p]
	}
	return BlockedKey{answer{m}, hash, m.GetMaterialHash(), proof, instant(m.GetBlockedAt()), m.GetActor()}, nil
}
