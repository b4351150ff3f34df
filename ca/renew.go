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

// Renewal returns the request that renews a certificate of the inventory, for the key of the CSR. Its profile, names,
// subject and the extensions copied from a CSR are those of the old certificate. Its issuer is the old one, or its
// successor when the request is issued. The new certificate lives no longer than the profile gives now, and no longer
// than the old one did, unless that was cut short by the end of its issuer. Renewal refuses a CSR that asks for
// anything that the old certificate does not have, and refuses to renew an authority. The caller must have decided
// whether the principal may renew this certificate. The grant is as for Issue, which checks the request against the
// present profile. Refusals are written to the audit log.
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
	r := Request{
		Profile: old.Profile, Issuer: old.Issuer, CSR: csr, Subject: subjectOf(leaf), RequestID: requestID,
		Renews: sha256.Sum256(old.DER), Extensions: copiedExtensions(p, leaf.Extensions),
	}
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
	if !issuer.endsAt(leaf.NotAfter) { // else the end of the issuer cut its life short
		r.AtMost = lifeOf(old, p)
	}
	return r, nil
}

// lifeOf returns the lifetime that a certificate was issued with: its validity, both ends included, less the profile's
// Backdate. The profile may have had another Backdate then. So unless the result is longer than the time that was left
// when the certificate was recorded, just after it was drafted, and by less than a minute, lifeOf returns that time.
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

// extendsNothingElse refuses extensions that the old certificate does not have. The request may leave out any.
func extendsNothingElse(asked, had []pkix.Extension) error {
	for _, extension := range asked {
		same := func(h pkix.Extension) bool {
			return h.Id.Equal(extension.Id) && h.Critical == extension.Critical && bytes.Equal(h.Value, extension.Value)
		}
		if !slices.ContainsFunc(had, same) {
			return pki.Errorf(pki.KindRefused, "renew certificate", "the old certificate lacks its extension %s, or has another value in it", extension.Id).
				InField("csr").WithHint("leave the extension out of the request, or ask for a new certificate with a credential")
		}
	}
	return nil
}

// namesNothingElse refuses a CSR whose names are not those of the old certificate. A CSR without names is accepted.
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
