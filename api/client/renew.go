package client

import (
	"context"
	"crypto"

	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// RenewRequest describes a renewal and the proof for it. Without Certificate and Key, it renews the TLS client
// certificate of Config, which must be for TLS clients. With them, Key signs the proof.
type RenewRequest struct {
	CSR         []byte        // DER; names in it, if any, are those of the old certificate
	RequestID   string        // empty: none; a repetition with the same CSR within 24 h returns the first answer
	Certificate []byte        // DER of the old certificate
	Key         crypto.Signer // its key; it signs one proof and is not kept
}

// Renew requests a certificate in place of one that is in force. It needs no token.
func (c *Client) Renew(ctx context.Context, q RenewRequest) (*Issued, error) {
	const op = "renew certificate"
	m := signetv1.RenewCertificateRequest_builder{CsrDer: q.CSR, RequestId: optional(q.RequestID)}
	if q.Key != nil {
		renewal := pki.Renewal{Certificate: q.Certificate, CSR: q.CSR, RequestID: q.RequestID, At: c.now()}
		signature, err := renewal.Sign(q.Key)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
		}
		m.Proof = signetv1.RenewalProof_builder{CertificateDer: q.Certificate, SignedAt: &timestamppb.Timestamp{Seconds: renewal.At.Unix()}, Signature: signature}.Build()
	}
	a, err := invoke(ctx, c, op, c.certificates.RenewCertificate, m.Build())
	if err != nil {
		return nil, err
	}
	if a.HasPending() {
		return nil, pendingError(op, a.GetPending())
	}
	certificate, err := certificateFrom(a.GetCertificate())
	if err != nil {
		return nil, err
	}
	return &Issued{answer{a}, certificate, []byte(a.GetPem()), a.GetRepeated()}, nil
}
