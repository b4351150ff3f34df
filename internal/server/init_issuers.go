package server

import (
	"context"
	"errors"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// makeIssuers makes the root and the issuing authority under it, through the pipeline of every certificate.
func (c *InitConfig) makeIssuers(ctx context.Context, db store.Store, keyStore keys.Store) (issuers []*ca.Issuer, err error) {
	profiles, err := profile.Open("")
	if err != nil {
		return nil, err
	}
	authority, err := ca.New(ctx, ca.Config{Profiles: profiles, Keys: keyStore, Issuers: db, Ranges: db, Certificates: db, Inventory: db, Audit: db, Now: c.Now})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, authority.Close(ctx)) }() // gives back what it reserved
	if len(authority.Issuers()) > 0 {
		return nil, pki.Errorf(pki.KindConflict, "make issuers", "the database has issuers already").InField("database").
			WithHint("to add an instance, copy the state directory of another; for a new authority, use an empty database")
	}
	grant, err := auth.System("init").Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	subject := func(name string) ca.Subject {
		s := ca.Subject{CommonName: name}
		if c.Organization != "" {
			s.Organization = []string{c.Organization}
		}
		return s
	}
	root, err := authority.CreateIssuer(ctx, grant, ca.NewIssuer{
		Label: "root", Subject: subject(c.RootName), Algorithm: c.RootKey, BaseURL: c.PublicURL, Lifetime: c.RootLifetime,
	})
	if err != nil {
		return nil, err
	}
	issuing, err := authority.CreateIssuer(ctx, grant, ca.NewIssuer{
		Label: "issuing", Subject: subject(c.IssuingName), Algorithm: c.IssuingKey, BaseURL: c.PublicURL, Lifetime: c.IssuingLifetime, Parent: root.ID,
	})
	if err != nil {
		return nil, err
	}
	return []*ca.Issuer{&root, &issuing}, nil
}
