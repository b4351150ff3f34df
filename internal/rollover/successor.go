package rollover

import (
	"bytes"
	"crypto/x509"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// describe returns the description of the successor: like the old issuer, with a new key and the next number in its
// name.
func (r *Rollover) describe(issuers []client.Issuer, certificate *x509.Certificate) (client.IssuerSpec, error) {
	name, spec := certificate.Subject, r.spec
	n := client.IssuerSpec{
		Label: spec.Label, Algorithm: spec.KeyAlgorithm, Public: r.Old.Public, BaseURL: r.Old.BaseURL, Lifetime: spec.Lifetime, Succeeds: r.Old.ID,
		Subject: client.Subject{CommonName: spec.CommonName, Organization: name.Organization, OrganizationalUnit: name.OrganizationalUnit, Country: name.Country,
			Province: name.Province, Locality: name.Locality},
		Permitted: client.NameConstraints{DNS: certificate.PermittedDNSDomains, Email: certificate.PermittedEmailAddresses, URI: certificate.PermittedURIDomains},
		Excluded:  client.NameConstraints{DNS: certificate.ExcludedDNSDomains, Email: certificate.ExcludedEmailAddresses, URI: certificate.ExcludedURIDomains},
	}
	for _, network := range certificate.PermittedIPRanges {
		n.Permitted.IP = append(n.Permitted.IP, network.String())
	}
	for _, network := range certificate.ExcludedIPRanges {
		n.Excluded.IP = append(n.Excluded.IP, network.String())
	}
	if certificate.MaxPathLen > 0 || certificate.MaxPathLenZero {
		n.PathLength = &certificate.MaxPathLen
	}
	if n.Label == "" {
		n.Label = numbered(r.Old.Label, "-")
	}
	if n.Subject.CommonName == "" {
		n.Subject.CommonName = numbered(name.CommonName, " ")
	}
	if n.Algorithm == "" {
		n.Algorithm = keys.AlgorithmOf(certificate.PublicKey).String()
	}
	if r.Old.Root && !spec.Parent.IsZero() {
		return n, pki.Errorf(pki.KindInvalid, op, "%s is a root, whose successor is one: it has no parent", r.Old.Label).InField("--parent").
			WithHint("leave it out: the two roots sign each other")
	}
	if r.Old.Root {
		return n, nil
	}
	parent, known := signerOf(issuers, certificate)
	if !spec.Parent.IsZero() {
		i := slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.ID == spec.Parent })
		if i < 0 {
			return n, pki.Errorf(pki.KindNotFound, op, "there is no issuer %s", spec.Parent).InField("--parent").
				WithHint("`signet issuer list` shows ids, labels and names")
		}
		parent, known = issuers[i], true
	}
	if n.Offline = !known || !parent.Online; n.Offline {
		n.Lifetime = 0 // its ceremony decides
		return n, nil
	}
	n.Parent = parent.ID
	return n, nil
}

// signerOf finds the issuer here that signed a certificate.
func signerOf(issuers []client.Issuer, certificate *x509.Certificate) (client.Issuer, bool) {
	for _, i := range issuers {
		if len(i.Certificates) == 0 {
			continue
		}
		above, err := x509.ParseCertificate(i.Certificates[0])
		if err == nil && bytes.Equal(above.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(above) == nil {
			return i, true
		}
	}
	return client.Issuer{}, false
}

var trailingNumber = regexp.MustCompile(`^(.*[^0-9])([0-9]{1,6})$`)

// numbered returns a name with the next number: "issuing" becomes "issuing-2", "Example CA 2" becomes "Example CA 3".
func numbered(name, separator string) string {
	if parts := trailingNumber.FindStringSubmatch(name); parts != nil && strings.HasSuffix(parts[1], separator) {
		if n, err := strconv.Atoi(parts[2]); err == nil {
			return parts[1] + strconv.Itoa(n+1)
		}
	}
	return name + separator + "2"
}
