package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Revocation holds the facts of a revocation or hold.
type Revocation struct {
	Reason       pki.Reason
	RevokedAt    time.Time
	InvalidityAt time.Time // zero: not stated
	Sequence     uint64
}

// RevokeRequest says what to revoke, by Issuer and Serial or by Certificate, and why.
type RevokeRequest struct {
	Issuer        pki.IssuerID
	Serial        pki.Serial
	Certificate   []byte // DER
	Reason        pki.Reason
	InvalidityAt  time.Time // zero: not stated
	WaitPublished bool      // wait until every live instance has published it
}

// Change is the status of a certificate after a change.
type Change struct {
	answer
	Issuer      pki.IssuerID
	Serial      pki.Serial
	Status      Status
	Revocation  *Revocation // nil after a release
	Sequence    uint64      // entry of the ledger
	Repeated    bool        // the change had been made earlier
	PublishedAt time.Time   // zero unless waited for

	// IssuedElsewhere says that the certificate was not issued here although the issuer's key, which the server has,
	// signed it: before the key came there, or because somebody else has the key.
	IssuedElsewhere bool
}

// Revoke revokes a certificate for good.
func (c *Client) Revoke(ctx context.Context, q RevokeRequest) (*Change, error) {
	m := signetv1.RevokeCertificateRequest_builder{
		Issuer:       issuerText(q.Issuer),
		Serial:       serialText(q.Serial),
		Reason:       new(signetv1.Reason(q.Reason)),
		InvalidityAt: timestamp(q.InvalidityAt),
		WaitFor:      waitFor(q.WaitPublished),
	}.Build()
	if len(q.Certificate) > 0 {
		m.SetCertificateDer(q.Certificate)
	}
	a, err := invoke(ctx, c, "revoke certificate", c.certificates.RevokeCertificate, m)
	if err != nil {
		return nil, err
	}
	change, err := changeFrom(a, a.GetRevocation(), a.GetRevocation().GetSequence())
	if err != nil {
		return nil, err
	}
	change.IssuedElsewhere = a.GetIssuedElsewhere()
	return change, nil
}

// HoldRequest names a certificate to put on hold, or to release from it.
type HoldRequest struct {
	Issuer        pki.IssuerID
	Serial        pki.Serial
	WaitPublished bool // wait until every live instance has published it
}

// Hold puts a certificate on hold.
func (c *Client) Hold(ctx context.Context, q HoldRequest) (*Change, error) {
	a, err := invoke(ctx, c, "hold certificate", c.certificates.HoldCertificate, signetv1.HoldCertificateRequest_builder{
		Issuer: new(q.Issuer.String()), Serial: new(q.Serial.String()), WaitFor: waitFor(q.WaitPublished)}.Build())
	if err != nil {
		return nil, err
	}
	return changeFrom(a, a.GetRevocation(), a.GetRevocation().GetSequence())
}

// Release releases a certificate from hold.
func (c *Client) Release(ctx context.Context, q HoldRequest) (*Change, error) {
	a, err := invoke(ctx, c, "release certificate", c.certificates.ReleaseCertificate, signetv1.ReleaseCertificateRequest_builder{
		Issuer: new(q.Issuer.String()), Serial: new(q.Serial.String()), WaitFor: waitFor(q.WaitPublished)}.Build())
	if err != nil {
		return nil, err
	}
	return changeFrom(a, nil, a.GetSequence())
}
