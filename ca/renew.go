package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
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
