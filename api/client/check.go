package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Evidence is one step of a check.
type Evidence struct {
	Source     string
	Statement  string
	Favourable bool
}

// Link is one certificate on the way to the root.
type Link struct {
	Subject     string
	Issuer      pki.IssuerID // zero for the certificate that was asked about
	NotAfter    time.Time
	Fingerprint string
}

// Check is the answer to "is this certificate authentic and in force?".
type Check struct {
	answer
	Verdict    Verdict
	Summary    string
	Issuer     pki.IssuerID // zero: not ours
	Serial     string       // hexadecimal; one of a foreign certificate may be no pki.Serial
	Status     Status
	Revocation *Revocation
	Sequence   uint64
	At         time.Time
	Chain      []Link
	Evidence   []Evidence
}

// CheckCertificate asks about a certificate in DER at a time. The zero time means now.
func (c *Client) CheckCertificate(ctx context.Context, der []byte, at time.Time) (*Check, error) {
	a, err := invoke(ctx, c, "check certificate", c.certificates.CheckCertificate,
		signetv1.CheckCertificateRequest_builder{CertificateDer: der, At: timestamp(at)}.Build())
	if err != nil {
		return nil, err
	}
	return checkFrom(a)
}
