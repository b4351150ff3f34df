package ca

import (
	"context"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Authority issues certificates. It is safe for concurrent use.
type Authority struct {
}

// Issue makes, records and returns one certificate. The grant must allow auth.ActionIssue for the profile. A refusal is
// a pki.Error that names the field at fault and is in the audit log.
func (a *Authority) Issue(ctx context.Context, grant auth.Grant, request Request) (*Issued, error) {
	return nil, pki.Errorf(pki.KindUnavailable, "issue certificate", "not built yet")
}

// Get returns one certificate. The grant must allow auth.ActionRead for the account it was issued to.
func (a *Authority) Get(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, serial pki.Serial) (*Issued, error) {
	return nil, pki.Errorf(pki.KindUnavailable, "get certificate", "not built yet")
}

// Find returns every certificate that has this serial, of any issuer.
func (a *Authority) Find(ctx context.Context, grant auth.Grant, serial pki.Serial) ([]Issued, error) {
	return nil, pki.Errorf(pki.KindUnavailable, "find certificate", "not built yet")
}

// List returns a page of at most limit (1 to 1,000; zero: 100) certificates. A grant for one account sees that account.
func (a *Authority) List(ctx context.Context, grant auth.Grant, filter Filter, cursor string, limit int) (Page, error) {
	return Page{}, pki.Errorf(pki.KindUnavailable, "list certificates", "not built yet")
}

// Count counts certificates, exactly up to a bound and by estimate beyond it.
func (a *Authority) Count(ctx context.Context, grant auth.Grant, filter Filter) (Count, error) {
	return Count{}, pki.Errorf(pki.KindUnavailable, "count certificates", "not built yet")
}
