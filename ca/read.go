package ca

import (
	"context"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Get returns one certificate. The grant must allow auth.ActionRead for the account that it was issued to; with any
// other the error is of KindNotFound.
func (a *Authority) Get(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, serial pki.Serial) (*Issued, error) {
	known, err := a.issuers.find(issuer)
	if err != nil {
		return nil, err
	}
	return a.get(ctx, grant, known, serial)
}

func (a *Authority) get(ctx context.Context, grant auth.Grant, issuer Issuer, serial pki.Serial) (*Issued, error) {
	const op = "get certificate"
	absent := pki.Errorf(pki.KindNotFound, op, "issuer %s issued no certificate with serial %s", issuer.Label, serial).InField("serial")
	position, ok := serial.Unmask(issuer.KeyHash)
	if !ok {
		return nil, absent
	}
	certificate, err := a.config.Inventory.GetCertificate(ctx, issuer.ID, serial, position)
	if err != nil {
		if pki.KindOf(err) == pki.KindNotFound {
			return nil, absent
		}
		return nil, err
	}
	if !grant.Allows(auth.ActionRead, certificate.Account) {
		return nil, absent
	}
	return &Issued{Certificate: certificate, Chain: a.chain(ctx, &issuer)}, nil
}

// List returns a page of at most limit certificates (1 to 1,000; zero: 100) after a cursor (empty: from the first). A
// grant for one account limits the list to that account.
func (a *Authority) List(ctx context.Context, grant auth.Grant, filter inventory.Filter, cursor string, limit int) (inventory.Page, error) {
	const op = "list certificates"
	if limit == 0 {
		limit = 100
	}
	if limit < 0 || limit > 1000 {
		return inventory.Page{}, pki.Errorf(pki.KindInvalid, op, "want 1 to 1,000").InField("limit")
	}
	filter, err := a.narrow(op, grant, filter)
	if err != nil {
		return inventory.Page{}, err
	}
	return a.config.Inventory.ListCertificates(ctx, filter, cursor, limit)
}

// Count counts certificates, exactly up to a bound and by estimate beyond it.
func (a *Authority) Count(ctx context.Context, grant auth.Grant, filter inventory.Filter) (inventory.Count, error) {
	filter, err := a.narrow("count certificates", grant, filter)
	if err != nil {
		return inventory.Count{}, err
	}
	return a.config.Inventory.CountCertificates(ctx, filter)
}

// narrow lets a grant for one account see that account only.
func (a *Authority) narrow(op string, grant auth.Grant, filter inventory.Filter) (inventory.Filter, error) {
	if filter.Now.IsZero() {
		filter.Now = a.config.Now()
	}
	if grant.Allows(auth.ActionRead, filter.Account) && (filter.Account != "" || grant.All()) {
		return filter, nil
	}
	own := grant.Principal().Account
	if filter.Account == "" && own != "" && grant.Allows(auth.ActionRead, own) {
		filter.Account = own
		return filter, nil
	}
	return filter, pki.Errorf(pki.KindDenied, op, "%s may not read these certificates", grant.Principal().ID)
}

// Issuers returns every issuer in order of creation. The result is shared: do not write to it.
func (a *Authority) Issuers() []Issuer { return a.issuers.list() }

// Issuer returns one issuer.
func (a *Authority) Issuer(id pki.IssuerID) (Issuer, error) { return a.issuers.find(id) }

// IssuerByNow is Issuer for an issuer that any instance may have created by now.
func (a *Authority) IssuerByNow(ctx context.Context, id pki.IssuerID) (Issuer, error) {
	if issuer, err := a.issuers.find(id); err == nil { // only an issuer that never had a certificate can be deleted
		return issuer, nil
	}
	if err := a.issuers.load(ctx); err != nil {
		return Issuer{}, err
	}
	return a.issuers.find(id)
}
