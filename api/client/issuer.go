package client

import (
	"context"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// IssuerState says what an issuer still does.
type IssuerState uint8

// The states. In each of them status is served.
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
	PEM          []byte // from the first certificate to the root
	Fingerprint  string // SHA-256 of the first certificate, hexadecimal
	Public       bool   // publicly trusted
	BaseURL      string // where its status is published
	Foreign      bool   // it ever signed outside the serial scheme
}

// Issuers lists all issuers.
func (c *Client) Issuers(ctx context.Context) ([]Issuer, error) {
	a, err := invoke(ctx, c, "list issuers", c.issuers.ListIssuers, new(signetv1.ListIssuersRequest))
	if err != nil {
		return nil, err
	}
	issuers := make([]Issuer, 0, len(a.GetIssuers()))
	for _, m := range a.GetIssuers() {
		issuer, err := issuerFrom(m)
		if err != nil {
			return nil, err
		}
		issuers = append(issuers, *issuer)
	}
	return issuers, nil
}

// Issuer returns one issuer.
func (c *Client) Issuer(ctx context.Context, id pki.IssuerID) (*Issuer, error) {
	a, err := invoke(ctx, c, "get issuer", c.issuers.GetIssuer, signetv1.GetIssuerRequest_builder{Issuer: new(id.String())}.Build())
	if err != nil {
		return nil, err
	}
	return issuerFrom(a.GetIssuer())
}

// CRL returns the revocation list of an issuer as DER: that of a shard, "{epoch}-{block}", or with "" the complete one.
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
	return i, nil
}
