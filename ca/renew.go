package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"iter"
	"slices"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Renewal is the request that renews a certificate of the inventory: its profile, names and subject, for the key of
// the CSR, with the extensions that it had of a CSR, and its issuer, or who takes over from that when it is issued. The new one lives no longer than the old one did, unless that was cut short by the
// end of its issuer, and no longer than the profile gives today. A CSR that asks for anything else than the old certificate has is
// refused; so is renewing an authority. Whether the caller may ask at all is
// decided before; Issue, for which the grant is too, checks everything against the profile of today. A refusal is in the audit log.
func (a *Authority) Renewal(ctx context.Context, grant auth.Grant, old inventory.Certificate, csr []byte, requestID string) (Request, error) {
	r, err := a.renewal(old, csr, requestID)
	if err != nil {
		return Request{}, a.refused(ctx, grant.Principal(), Request{Profile: old.Profile}, err)
	}
	return r, nil
}

func (a *Authority) renewal(old inventory.Certificate, csr []byte, requestID string) (Request, error) {
	const op = "renew certificate"
	leaf, err := x509.ParseCertificate(old.DER)
	if err != nil {
		return Request{}, pki.Errorf(pki.KindInternal, op, "read the old certificate: %w", err)
	}
	if leaf.IsCA {
		return Request{}, pki.Errorf(pki.KindRefused, op, "it is the certificate of an authority").InField("certificate")
	}
	p, err := a.config.Profiles.Get(old.Profile)
	if err != nil {
		return Request{}, err
	}
	r := Request{Profile: old.Profile, CSR: csr, RequestID: requestID, Subject: subjectOf(leaf), Renews: sha256.Sum256(old.DER), Issuer: old.Issuer, Extensions: copiedExtensions(p, leaf.Extensions)}
	if err := checkRequest(r); err != nil {
		return Request{}, err
	}
	if r.Names, err = canonicalNames(pki.CertificateNames(leaf)); err != nil {
		return Request{}, pki.Errorf(pki.KindRefused, op, "a name of the old certificate cannot be issued today: %w", err).InField("certificate")
	}
	asked, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return Request{}, pki.Errorf(pki.KindInvalid, "read certificate request", "%w", err).InField("csr")
	}
	if err := namesNothingElse(asked, leaf, r.Names); err != nil {
		return Request{}, err
	}
	if err := extendsNothingElse(copiedExtensions(p, asked.Extensions), r.Extensions); err != nil {
		return Request{}, err
	}
	issuer, err := a.issuers.find(old.Issuer)
	if err != nil {
		return Request{}, err
	}
	if !issuer.endsAt(leaf.NotAfter) { // else its life was what was left, and not what was asked
		r.AtMost = lifeOf(old, p)
	}
	return r, nil
}

// lifeOf is how long a certificate was to live from when it was issued: Backdate less than from its beginning to its end, which both belong to its
// validity. That is of the Backdate it was issued with: where the one of today gives another time than what was left when it was recorded, a moment
// after, what was left is its life.
func lifeOf(old inventory.Certificate, p *profile.Profile) time.Duration {
	const moment = time.Minute
	left := old.NotAfter.Sub(old.IssuedAt.Truncate(time.Second))
	if whole := old.NotAfter.Sub(old.NotBefore) - p.Backdate; whole > left && whole-left < moment {
		return whole + time.Second
	}
	return left + time.Second
}

// renewer returns the issuer that renews a certificate: the one that issued it; else its successor; else, if it no
// longer issues, the issuer that a request naming none would get. A disabled issuer or successor is waited for: it may
// be enabled again, and relying parties may not know an unrelated one. A profile that names an issuer decides for
// renewals too.
func (a *Authority) renewer(ctx context.Context, p *profile.Profile, old pki.IssuerID, names []pki.Identifier) (Issuer, error) {
	could := func(i Issuer) error { return a.couldSign(ctx, i.ID, p, names) }
	before, err := a.issuers.find(old)
	if err != nil || p.Issuer != "" || before.isRoot() {
		return a.issuers.choose(p, pki.IssuerID{}, could)
	}
	if before.State == IssuerActive && could(before) == nil {
		return before, nil
	}
	next, ok, err := a.issuers.successor(before, could)
	if !ok && err == nil {
		if rests := a.resting(before, could); rests != nil {
			return Issuer{}, rests
		}
		next, err = a.chooseFit(p, could)
	}
	if err != nil {
		return Issuer{}, a.unsigned(before, could, err)
	}
	return next, nil
}

// resting returns an error if the issuer, or a successor of it, could sign but is disabled, so that the renewal has to
// wait. It returns nil otherwise. A successor that has no certificate yet does not count: it may never get one.
func (a *Authority) resting(before Issuer, could func(Issuer) error) error {
	for _, i := range append([]Issuer{before}, a.issuers.successors(before)...) {
		if i.State == IssuerDisabled && could(i) == nil {
			return waiting(i, inactive(&i))
		}
	}
	return nil
}

// approver returns the issuer of an approved request that names none: the one that it would get now, else the one that
// it would have had when it was filed. A requester who had one choice had no reason to name it, so issuers added since
// are no reason to refuse.
func (a *Authority) approver(p *profile.Profile, filed pki.IssuerID, could func(Issuer) error) (Issuer, error) {
	before, err := a.issuers.find(filed)
	if err != nil {
		return a.issuers.choose(p, pki.IssuerID{}, could)
	}
	next, err := a.chooseFit(p, could)
	switch {
	case err == nil:
		return next, nil
	case before.candidate() && could(before) == nil:
		return before, nil
	}
	return Issuer{}, a.unsigned(before, could, err)
}

// chooseFit is choose, and asks of the only one there is too.
func (a *Authority) chooseFit(p *profile.Profile, could func(Issuer) error) (Issuer, error) {
	next, err := a.issuers.choose(p, pki.IssuerID{}, could)
	if err == nil {
		err = could(next)
	}
	return next, err
}

// unsigned says why nobody renews a certificate of an issuer, or issues what was filed for it. Nobody waits for a retired one.
func (a *Authority) unsigned(before Issuer, could func(Issuer) error, cause error) error {
	if waits := a.awaited(before, could, cause); waits != nil {
		return waits
	}
	if before.State == IssuerRetired && (refusal(cause) || !a.issuers.mayIssue()) {
		return pki.Errorf(pki.KindRefused, "choose issuer", "%w; and of another: %v", inactive(&before), cause).InField("issuer").
			WithHint("have another authority succeed it (signet issuer create or update, with --succeeds %s) and ask again", before.Label)
	}
	return cause
}

// awaited is, while an issuer, or one that succeeds it, may sign again, that this has to wait for that one: of KindFailedPrecondition, for what is
// against a rule today may be issued tomorrow. It is nil if there is nothing to wait for, or if nobody else refused.
func (a *Authority) awaited(before Issuer, could func(Issuer) error, cause error) error {
	if !refusal(cause) {
		return nil
	}
	for _, i := range append([]Issuer{before}, a.issuers.successors(before)...) {
		if obstacle := passing(i, could); obstacle != nil {
			return waiting(i, fmt.Errorf("%w; and of another: %v", obstacle, cause))
		}
	}
	return nil
}

// waiting says what keeps an issuer, that may sign again, from signing now.
func waiting(i Issuer, cause error) error {
	return pki.Errorf(pki.KindFailedPrecondition, "choose issuer", "%w", cause).InField("issuer").
		WithHint("once it issues again this can be issued; or have another authority succeed it: signet issuer create or update, with --succeeds %s", i.Label)
}

// refusal reports whether an error of a choice would be the same tomorrow.
func refusal(err error) bool {
	return pki.KindOf(err) == pki.KindInvalid || pki.KindOf(err) == pki.KindRefused
}

// passing is what keeps an issuer from signing now, though it may sign later; nil if nothing does, or for good.
func passing(i Issuer, could func(Issuer) error) error {
	obstacle := could(i)
	if obstacle == nil && i.State != IssuerActive {
		obstacle = inactive(&i)
	}
	if i.State == IssuerRetired || pki.KindOf(obstacle) == pki.KindRefused {
		return nil
	}
	return obstacle
}

// endsAt reports whether a certificate of the issuer ends at a time.
func (i *Issuer) endsAt(at time.Time) bool {
	return slices.ContainsFunc(i.Certificates, func(c IssuerCertificate) bool { return c.NotAfter.Equal(at) })
}

// extendsNothingElse refuses extensions that the old certificate does not have; none may be asked for.
func extendsNothingElse(asked, had []pkix.Extension) error {
	for _, extension := range asked {
		same := func(h pkix.Extension) bool {
			return h.Id.Equal(extension.Id) && h.Critical == extension.Critical && bytes.Equal(h.Value, extension.Value)
		}
		if !slices.ContainsFunc(had, same) {
			return pki.Errorf(pki.KindRefused, "renew certificate", "the old certificate does not have its extension %s, or another value in it", extension.Id).InField("csr").
				WithHint("leave the extension out of the request, or ask for a new certificate with a credential")
		}
	}
	return nil
}

// namesNothingElse refuses a CSR whose names are not those of the old certificate; it may have none.
func namesNothingElse(csr *x509.CertificateRequest, old *x509.Certificate, names []pki.Identifier) error {
	differs := pki.Errorf(pki.KindRefused, "renew certificate", "its names are not those of the old certificate").InField("csr").
		WithHint("leave the names out of the request, or ask for a new certificate with a credential")
	if name := csr.Subject.CommonName; name != "" && name != old.Subject.CommonName {
		return differs
	}
	asked, err := canonicalNames(pki.RequestNames(csr))
	if err != nil {
		return differs
	}
	for _, name := range asked {
		if !slices.Contains(names, name) {
			return differs
		}
	}
	if len(asked) > 0 && len(asked) < len(names) { // a renewal must not lose a name by accident
		return differs
	}
	return nil
}

func canonicalNames(names iter.Seq2[pki.IdentifierType, string]) ([]pki.Identifier, error) {
	canonical := []pki.Identifier{}
	for t, name := range names {
		id, err := pki.NewIdentifier(t, name)
		if err != nil {
			return nil, err
		}
		canonical = append(canonical, id)
	}
	return canonical, nil
}

func subjectOf(c *x509.Certificate) Subject {
	n := c.Subject
	return Subject{CommonName: n.CommonName, Organization: n.Organization, OrganizationalUnit: n.OrganizationalUnit, Country: n.Country,
		Province: n.Province, Locality: n.Locality, SerialNumber: n.SerialNumber}
}
