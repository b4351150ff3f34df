package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// IssuerState is the state of an issuer.
type IssuerState uint8

// The states. Status is served in each of them.
const (
	IssuerUnknown IssuerState = iota
	IssuerActive
	IssuerDisabled
	IssuerRetired
	IssuerPending
)

var issuerStates = [...]string{"unknown", "active", "disabled", "retired", "pending"}

// String is a lower-case word.
func (s IssuerState) String() string {
	if int(s) < len(issuerStates) {
		return issuerStates[s]
	}
	return issuerStates[IssuerUnknown]
}

// Issuer is one certification authority of the server.
type Issuer struct {
	answer
	ID           pki.IssuerID
	Label        string
	Subject      string // RFC 4514
	State        IssuerState
	KeyHash      pki.KeyHash
	KeyType      string
	Root         bool
	Online       bool
	Certificates [][]byte // DER; the one that is served first
	NotBefore    time.Time
	NotAfter     time.Time
	PEM          []byte       // from the first certificate to the root
	Fingerprint  string       // SHA-256 of the first certificate, hexadecimal
	Public       bool         // publicly trusted
	BaseURL      string       // where its status is published
	Foreign      bool         // it has ever signed outside the serial scheme
	CSRPEM       []byte       // while it waits for a certificate from elsewhere
	Succeeds     pki.IssuerID // while that one issues, requests that name no issuer stay with it; zero: none

	Retention     time.Duration // for how long it answers for certificates after their end; zero: not at all
	RetainedSince time.Time     // it does not answer for certificates that had expired before

	UnusableReason string // why nothing that it signs can be valid, whatever its state; empty: it stands
}

// Issuers lists all issuers.
func (c *Client) Issuers(ctx context.Context) ([]Issuer, error) {
	issuers := []Issuer{}
	for token := ""; ; {
		a, err := invoke(ctx, c, "list issuers", c.issuers.ListIssuers, signetv1.ListIssuersRequest_builder{PageToken: optional(token)}.Build())
		if err != nil {
			return nil, err
		}
		for _, m := range a.GetIssuers() {
			issuer, err := issuerFrom(m)
			if err != nil {
				return nil, err
			}
			issuers = append(issuers, *issuer)
		}
		if token = a.GetNextPageToken(); token == "" {
			return issuers, nil
		}
	}
}

// Issuer returns one issuer.
func (c *Client) Issuer(ctx context.Context, id pki.IssuerID) (*Issuer, error) {
	a, err := invoke(ctx, c, "get issuer", c.issuers.GetIssuer, signetv1.GetIssuerRequest_builder{Issuer: new(id.String())}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// CRL returns a CRL of an issuer in DER: that of the shard "{epoch}-{block}", or the complete one for "".
func (c *Client) CRL(ctx context.Context, id pki.IssuerID, shard string) ([]byte, error) {
	a, err := invoke(ctx, c, "get CRL", c.issuers.GetCrl, signetv1.GetCrlRequest_builder{Issuer: new(id.String()), Shard: optional(shard)}.Build())
	if err != nil {
		return nil, err
	}
	return a.GetData(), nil
}

func issuerFrom(m *signetv1.Issuer) (*Issuer, error) {
	i := &Issuer{
		answer:       answer{m},
		Label:        m.GetLabel(),
		Subject:      m.GetSubject(),
		KeyType:      m.GetKeyType(),
		Root:         m.GetRoot(),
		Online:       m.GetOnline(),
		Certificates: m.GetCertificates(),
		NotBefore:    instant(m.GetNotBefore()),
		NotAfter:     instant(m.GetNotAfter()),
		PEM:          []byte(m.GetPem()),
		Fingerprint:  m.GetFingerprint(),
		Public:       m.GetVisibility() == signetv1.Visibility_VISIBILITY_PUBLIC,
		BaseURL:      m.GetBaseUrl(),
		Foreign:      m.GetForeign(),
		CSRPEM:       []byte(m.GetCsrPem()),

		Retention:     m.GetRetention().AsDuration(),
		RetainedSince: instant(m.GetRetainedSince()),

		UnusableReason: m.GetUnusableReason(),
	}
	if s := m.GetState(); s > 0 && int(s) < len(issuerStates) {
		i.State = IssuerState(s)
	}
	var err error
	if i.ID, err = pki.ParseIssuerID(m.GetIssuer()); err != nil {
		return nil, unreadable(err)
	}
	if i.KeyHash, err = pki.ParseKeyHash(m.GetKeyHash()); err != nil {
		return nil, unreadable(err)
	}
	if i.Succeeds, err = given(m.GetSucceeds(), pki.ParseIssuerID); err != nil {
		return nil, err
	}
	return i, nil
}

// NameConstraints limits the names below an authority.
type NameConstraints struct {
	DNS   []string
	IP    []string // CIDR
	Email []string
	URI   []string
}

func (n NameConstraints) message() *signetv1.NameConstraints {
	if len(n.DNS)+len(n.IP)+len(n.Email)+len(n.URI) == 0 {
		return nil
	}
	return signetv1.NameConstraints_builder{Dns: n.DNS, Ip: n.IP, Email: n.Email, Uri: n.URI}.Build()
}

// IssuerSpec describes an issuer to make.
type IssuerSpec struct {
	Label      string
	Subject    Subject // the common name is required
	Algorithm  string  // "ecdsa-p384"; empty: ecdsa-p256
	Public     bool    // publicly trusted
	BaseURL    string
	Lifetime   time.Duration // zero: 20 years for a root, 10 for others
	Parent     pki.IssuerID  // zero: a root, unless Offline
	Offline    bool          // the parent is elsewhere: see Issuer.CSRPEM
	PathLength *int          // nil: any number for a root, 0 for others
	Succeeds   pki.IssuerID  // while that one issues, requests that name no issuer stay with it; zero: none
	Permitted  NameConstraints
	Excluded   NameConstraints
}

// CreateIssuer makes an issuer with a new key.
func (c *Client) CreateIssuer(ctx context.Context, s IssuerSpec) (*Issuer, error) {
	b := signetv1.CreateIssuerRequest_builder{
		Label:     &s.Label,
		Subject:   s.Subject.message(),
		Algorithm: optional(s.Algorithm),
		BaseUrl:   &s.BaseURL,
		Lifetime:  duration(s.Lifetime),
		Parent:    issuerText(s.Parent),
		Succeeds:  issuerText(s.Succeeds),
		Offline:   &s.Offline,
		Permitted: s.Permitted.message(),
		Excluded:  s.Excluded.message(),
	}
	if s.Public {
		b.Visibility = signetv1.Visibility_VISIBILITY_PUBLIC.Enum()
	}
	if s.PathLength != nil {
		b.PathLength = new(uint32(*s.PathLength))
	}
	a, err := invoke(ctx, c, "create issuer", c.issuers.CreateIssuer, b.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// IssuerImport is a certificate that another authority signed for an issuer of the server.
type IssuerImport struct {
	PEM   []byte // the certificate and those above it
	Wider bool   // allow a certificate that permits more than the issuer's request asks for, or than its present certificate permits
}

// ImportIssuerCertificate imports a certificate that another authority signed for an issuer of the server.
func (c *Client) ImportIssuerCertificate(ctx context.Context, i IssuerImport) (*Issuer, error) {
	a, err := invoke(ctx, c, "import issuer certificate", c.issuers.ImportIssuerCertificate, signetv1.ImportIssuerCertificateRequest_builder{Pem: new(string(i.PEM)), AllowWider: &i.Wider}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// CrossSignIssuer has the issuer parent of the server sign the name and key of another. A lifetime of zero means 10
// years.
func (c *Client) CrossSignIssuer(ctx context.Context, issuer, parent pki.IssuerID, lifetime time.Duration) (*Issuer, error) {
	a, err := invoke(ctx, c, "cross-sign issuer", c.issuers.CrossSignIssuer,
		signetv1.CrossSignIssuerRequest_builder{Issuer: new(issuer.String()), Parent: new(parent.String()), Lifetime: duration(lifetime)}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// SetIssuerState makes an issuer active, disabled or, for good, retired.
func (c *Client) SetIssuerState(ctx context.Context, issuer pki.IssuerID, state IssuerState) (*Issuer, error) {
	a, err := invoke(ctx, c, "change issuer", c.issuers.SetIssuerState,
		signetv1.SetIssuerStateRequest_builder{Issuer: new(issuer.String()), State: new(signetv1.IssuerState(state))}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}
