package installation

import (
	"context"
	"errors"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// makeIssuers creates the root and the issuing CA under it, by the pipeline of every certificate. Below an off-line
// root, the issuing CA is left waiting for its certificate.
func (c *InitConfig) makeIssuers(ctx context.Context, db store.Store, keyStore keys.Store) (issuers []*ca.Issuer, err error) {
	authority, err := openAuthority(ctx, db, keyStore, c.Now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, authority.Close(ctx)) }() // gives back the reserved range
	if len(authority.Issuers()) > 0 {
		return nil, pki.Errorf(pki.KindConflict, "make issuers", "the database has issuers already").InField("database").
			WithHint("to add an instance, copy the state directory of another; for a new authority, use an empty database")
	}
	grant, err := auth.System("init").Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	root, err := c.makeRoot(ctx, authority, grant)
	if err != nil {
		return nil, err
	}
	n := ca.NewIssuer{Label: "issuing", Subject: c.subject(c.IssuingName),
		Algorithm: c.IssuingKey, BaseURL: c.PublicURL, Lifetime: c.IssuingLifetime, Parent: root.ID}
	if root.KeyURI == "" {
		n.Parent, n.Offline, n.Lifetime = pki.IssuerID{}, true, 0
	}
	issuing, err := authority.CreateIssuer(ctx, grant, n)
	if err != nil {
		return nil, err
	}
	return []*ca.Issuer{&root, &issuing}, nil
}

// makeRoot creates a root here, or adopts the one that is off-line.
func (c *InitConfig) makeRoot(ctx context.Context, authority *ca.Authority, grant auth.Grant) (ca.Issuer, error) {
	if c.OfflineRoot == nil {
		return authority.CreateIssuer(ctx, grant, ca.NewIssuer{
			Label: "root", Subject: c.subject(c.RootName), Algorithm: c.RootKey, BaseURL: c.PublicURL, Lifetime: c.RootLifetime,
		})
	}
	chain, err := certificatesIn(c.OfflineRoot)
	if err != nil {
		return ca.Issuer{}, err
	}
	if len(chain) != 1 {
		return ca.Issuer{}, pki.Errorf(pki.KindInvalid, "read off-line root", "%d certificates: want the root alone", len(chain)).InField("--offline-root")
	}
	return authority.AdoptIssuer(ctx, grant, ca.Adoption{Label: "root", BaseURL: c.PublicURL, DER: chain[0]})
}

func (c *InitConfig) subject(name string) ca.Subject {
	s := ca.Subject{CommonName: name}
	if c.Organization != "" {
		s.Organization = []string{c.Organization}
	}
	return s
}

// openAuthority opens an authority without a server.
func openAuthority(ctx context.Context, db store.Store, keyStore keys.Store, now func() time.Time) (*ca.Authority, error) {
	profiles, err := profile.Open("")
	if err != nil {
		return nil, err
	}
	return ca.New(ctx, ca.Config{Profiles: profiles, Keys: keyStore, Issuers: db, Ranges: db, Certificates: db, Inventory: db, Audit: db, Now: now})
}

// ImportFirst imports the certificate that a ceremony made for a new CA below an off-line root. Before that no server
// can start, because it would have no certificate. chain is PEM: the certificate and the root.
func ImportFirst(ctx context.Context, c *settings.Config, passphrase, chain []byte, unsafe bool) (issuer ca.Issuer, err error) {
	certificates, err := certificatesIn(chain)
	if err != nil {
		return ca.Issuer{}, err
	}
	keyStore, err := OpenKeys(c.KeyStores(), c.State().Keys(), passphrase, nil)
	if err != nil {
		return ca.Issuer{}, err
	}
	db, err := OpenDatabase(ctx, c, "signet init", unsafe)
	if err != nil {
		return ca.Issuer{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	authority, err := openAuthority(ctx, db, keyStore, time.Now)
	if err != nil {
		return ca.Issuer{}, err
	}
	defer func() { err = errors.Join(err, authority.Close(ctx)) }()
	grant, err := auth.System("init").Authorize(auth.ActionManage, "")
	if err != nil {
		return ca.Issuer{}, err
	}
	issuer, err = authority.ImportIssuerCertificate(ctx, grant, ca.IssuerImport{DER: certificates[0], Chain: certificates[1:]})
	if err == nil && issuer.KeyURI == "" {
		return ca.Issuer{}, pki.Errorf(pki.KindRefused, "import first certificate", "it is that of off-line issuer %s itself", issuer.Label).InField("--certificate").
			WithHint("give the certificate that the ceremony made for issuing.csr")
	}
	return issuer, err
}

// certificatesIn returns the certificates in PEM text, at least one.
func certificatesIn(text []byte) (all [][]byte, err error) {
	if all = pki.CertificatesInPEM(text); len(all) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, "read certificates", "there is no certificate in PEM")
	}
	return all, nil
}
