package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Adoption describes an authority that the server did not make.
type Adoption struct {
	Label   string // unique
	PEM     []byte // its certificate and those above it
	BaseURL string // where its lists and certificate will be served
	KeyURI  string // of its key in the server's key store; "": the key is off-line
	CRL     []byte // with KeyURI: the last CRL that it signed, in DER
	NoCRL   bool   // with KeyURI: it never signed a CRL
}

// AdoptIssuer adds an authority that the server did not make.
func (c *Client) AdoptIssuer(ctx context.Context, adoption Adoption) (*Issuer, error) {
	a, err := invoke(ctx, c, "adopt issuer", c.issuers.AdoptIssuer, signetv1.AdoptIssuerRequest_builder{Label: &adoption.Label, Pem: new(string(adoption.PEM)),
		BaseUrl: &adoption.BaseURL, KeyUri: optional(adoption.KeyURI), Crl: adoption.CRL, NoCrl: &adoption.NoCRL}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// RenewIssuer issues a new certificate for the name and key of an issuer. A lifetime of zero means the default of its
// kind.
func (c *Client) RenewIssuer(ctx context.Context, issuer pki.IssuerID, lifetime time.Duration) (*Issuer, error) {
	a, err := invoke(ctx, c, "renew issuer", c.issuers.RenewIssuer,
		signetv1.RenewIssuerRequest_builder{Issuer: new(issuer.String()), Lifetime: duration(lifetime)}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// ChooseIssuerCertificate chooses the certificate that is served first, by its SHA-256 in hexadecimal.
func (c *Client) ChooseIssuerCertificate(ctx context.Context, issuer pki.IssuerID, fingerprint string) (*Issuer, error) {
	a, err := invoke(ctx, c, "choose issuer certificate", c.issuers.ChooseIssuerCertificate,
		signetv1.ChooseIssuerCertificateRequest_builder{Issuer: new(issuer.String()), Fingerprint: &fingerprint}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// IssuerChange describes a change of an issuer. A nil field stays as it is.
type IssuerChange struct {
	BaseURL  *string       // where its products are served from now on
	Succeeds *pki.IssuerID // the issuer that it succeeds; the zero one: none
}

// UpdateIssuer changes the base URL of an issuer, or the issuer that it succeeds.
func (c *Client) UpdateIssuer(ctx context.Context, issuer pki.IssuerID, change IssuerChange) (*Issuer, error) {
	m := signetv1.UpdateIssuerRequest_builder{Issuer: new(issuer.String()), BaseUrl: change.BaseURL}
	if change.Succeeds != nil {
		m.Succeeds = new("")
		if !change.Succeeds.IsZero() {
			m.Succeeds = new(change.Succeeds.String())
		}
	}
	a, err := invoke(ctx, c, "update issuer", c.issuers.UpdateIssuer, m.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// DeletedIssuer is what is left of an issuer that was given up.
type DeletedIssuer struct {
	answer
	KeyURI string // of its key, which stays in the server's key store
}

// DeleteIssuer gives up an issuer that waits for its first certificate.
func (c *Client) DeleteIssuer(ctx context.Context, issuer pki.IssuerID) (*DeletedIssuer, error) {
	a, err := invoke(ctx, c, "delete issuer", c.issuers.DeleteIssuer, signetv1.DeleteIssuerRequest_builder{Issuer: new(issuer.String())}.Build())
	if err != nil {
		return nil, err
	}
	return &DeletedIssuer{answer{a}, a.GetKeyUri()}, nil
}

// Bundle is the chain to send and the roots to trust at a time.
type Bundle struct {
	answer
	At       time.Time
	ChainPEM []byte // the issuer's certificates and those above, without roots
	RootsPEM []byte
	Paths    []IssuerPath
}

// IssuerPath is one path from an issuer to a root, and when it is valid.
type IssuerPath struct {
	Subjects  []string // the issuer first, the root last
	NotBefore time.Time
	NotAfter  time.Time
	Valid     bool // at the date asked about
}

// IssuerBundle returns the Bundle of an issuer at a time; the zero time means now.
func (c *Client) IssuerBundle(ctx context.Context, issuer pki.IssuerID, at time.Time) (*Bundle, error) {
	q := signetv1.GetIssuerBundleRequest_builder{Issuer: new(issuer.String())}
	if !at.IsZero() {
		q.At = timestamppb.New(at)
	}
	a, err := invoke(ctx, c, "get bundle", c.issuers.GetIssuerBundle, q.Build())
	if err != nil {
		return nil, err
	}
	b := &Bundle{answer: answer{a}, At: instant(a.GetAt()), ChainPEM: []byte(a.GetChainPem()), RootsPEM: []byte(a.GetRootsPem())}
	for _, m := range a.GetPaths() {
		p := IssuerPath{NotBefore: instant(m.GetNotBefore()), NotAfter: instant(m.GetNotAfter()), Valid: m.GetValid()}
		for _, certificate := range m.GetCertificates() {
			p.Subjects = append(p.Subjects, certificate.GetSubject())
		}
		b.Paths = append(b.Paths, p)
	}
	return b, nil
}

// ImportedCRL is a CRL that was imported.
type ImportedCRL struct {
	answer
	Number      uint64
	ThisUpdate  time.Time
	NextUpdate  time.Time
	Revoked     int
	Fingerprint string // SHA-256, hexadecimal
	URL         string // where it is served
}

// ImportCRL publishes the CRL of an off-line issuer, in DER. It must list everything that is revoked, except the
// certificates whose serial numbers expired names: they have expired and left the list.
func (c *Client) ImportCRL(ctx context.Context, issuer pki.IssuerID, der []byte, expired []pki.Serial) (*ImportedCRL, error) {
	q := signetv1.ImportCrlRequest_builder{Issuer: new(issuer.String()), Crl: der}
	for _, serial := range expired {
		q.ExpiredSerials = append(q.ExpiredSerials, serial.String())
	}
	a, err := invoke(ctx, c, "import revocation list", c.issuers.ImportCrl, q.Build())
	if err != nil {
		return nil, err
	}
	return &ImportedCRL{answer: answer{a}, Number: a.GetNumber(), ThisUpdate: instant(a.GetThisUpdate()), NextUpdate: instant(a.GetNextUpdate()),
		Revoked: int(a.GetRevoked()), Fingerprint: a.GetFingerprint(), URL: a.GetUrl()}, nil
}
