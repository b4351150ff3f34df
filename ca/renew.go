package ca

import (
	"crypto/x509"
	"slices"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/pki"
)

// Renewal is the request that renews a certificate of the inventory: its profile, names, subject and issuer, for the key of
// the CSR. The new one lives no longer than the old one did, and no longer than the profile gives today. A CSR that names
// anything else than the old certificate is refused; so is renewing an authority. Whether the caller may ask at all is
// decided before; Issue checks everything against the profile of today.
func (a *Authority) Renewal(old inventory.Certificate, csr []byte, requestID string) (Request, error) {
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
	r := Request{Profile: old.Profile, CSR: csr, RequestID: requestID, Subject: subjectOf(leaf)}
	if err := checkRequest(r); err != nil {
		return Request{}, err
	}
	if r.Names, err = canonicalNames(altNames(leaf.DNSNames, leaf.IPAddresses, leaf.EmailAddresses, leaf.URIs)); err != nil {
		return Request{}, pki.Errorf(pki.KindRefused, op, "a name of the old certificate cannot be issued today: %w", err).InField("certificate")
	}
	if err := namesNothingElse(csr, leaf, r.Names); err != nil {
		return Request{}, err
	}
	// The old one began Backdate before it was issued, and both ends belong to its validity.
	if lifetime := leaf.NotAfter.Sub(leaf.NotBefore.Add(p.Backdate)) + time.Second; lifetime > 0 && lifetime < p.Lifetime {
		r.Lifetime = lifetime
	}
	if issuer, err := a.issuers.find(old.Issuer); err == nil && p.Issuer == "" && issuer.State == IssuerActive && !issuer.isRoot() {
		r.Issuer = issuer.ID
	}
	return r, nil
}

// namesNothingElse refuses a CSR whose names are not those of the old certificate; it may have none.
func namesNothingElse(der []byte, old *x509.Certificate, names []pki.Identifier) error {
	const op = "read certificate request"
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err).InField("csr")
	}
	differs := pki.Errorf(pki.KindRefused, "renew certificate", "its names are not those of the old certificate").InField("csr").
		WithHint("leave the names out of the request, or ask for a new certificate with a credential")
	if name := csr.Subject.CommonName; name != "" && name != old.Subject.CommonName {
		return differs
	}
	asked, err := canonicalNames(csrNames(csr))
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

func canonicalNames(names []pki.Identifier) ([]pki.Identifier, error) {
	canonical := make([]pki.Identifier, 0, len(names))
	for _, name := range names {
		id, err := pki.NewIdentifier(name.Type, name.Value)
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
