package ca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// maxAskedNames bounds the names of a request, before its profile is looked at.
const maxAskedNames = 1000

// checkRequest bounds everything before anything is computed from it.
func checkRequest(r Request) error {
	const op = "read request"
	switch {
	case len(r.CSR) == 0:
		return pki.Errorf(pki.KindInvalid, op, "there is none").InField("csr")
	case len(r.CSR) > MaxCSR:
		return pki.Errorf(pki.KindInvalid, op, "%d octets are more than %d", len(r.CSR), MaxCSR).InField("csr")
	case len(r.Names) > maxAskedNames:
		return pki.Errorf(pki.KindInvalid, op, "%d names are more than %d", len(r.Names), maxAskedNames).InField("identifiers")
	case r.Lifetime != 0 && !r.NotAfter.IsZero():
		return pki.Errorf(pki.KindInvalid, op, "give a lifetime or an end, not both").InField("not_after")
	case r.Lifetime < 0:
		return pki.Errorf(pki.KindInvalid, op, "is negative").InField("lifetime")
	case len(r.RequestID) > 128 || strings.ContainsFunc(r.RequestID, func(c rune) bool { return c <= ' ' || c > '~' }):
		return pki.Errorf(pki.KindInvalid, op, "want at most 128 printable ASCII characters without spaces").InField("request_id")
	}
	return nil
}

// provePossession parses the CSR and checks that its maker holds the private key. It refuses keys that would make the
// signature meaningless, and CSRs that checkAsked refuses.
func provePossession(p *profile.Profile, der []byte) (*x509.CertificateRequest, error) {
	const op = "read certificate request"
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		if _, ok := errors.AsType[asn1.StructuralError](err); ok { // its text is a dump of a Go value
			err = errors.New("this is no certificate request in DER")
		}
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("csr").WithHint("send one PKCS #10 request in DER, or in PEM where that is accepted")
	}
	if set := pki.MLDSAOfSPKI(csr.RawSubjectPublicKeyInfo); set != pki.NoMLDSA {
		if err := set.Supported(); err != nil {
			return nil, err
		}
	}
	if err := policy.CheckKeyShape(p, csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "its signature is not by the key inside: %w", err).InField("csr").
			WithHint("make the request again with the private key it is for")
	}
	return csr, checkAsked(p, csr.Extensions)
}

// checkAsked refuses a CSR that asks for powers that the profile does not give. The certificate would not have them in
// any case, but a requester who asks by mistake should learn it, and one who asks on purpose should be in the audit
// log.
func checkAsked(p *profile.Profile, extensions []pkix.Extension) error {
	for _, extension := range extensions {
		switch {
		case extension.Id.Equal(oidBasicConstraints):
			var constraints struct {
				IsCA       bool `asn1:"optional"`
				PathLength int  `asn1:"optional,default:-1"`
			}
			if rest, err := asn1.Unmarshal(extension.Value, &constraints); err != nil || len(rest) > 0 {
				return refuse("csr", "its basicConstraints cannot be read")
			}
			if constraints.IsCA && p.CA == nil {
				return refuse("csr", "it asks to be a CA, which profile %s does not make", p.Name)
			}
		case extension.Id.Equal(oidExtKeyUsage) && (p.CA == nil || len(p.ExtKeyUsage) > 0): // a CA without any is unlimited, so asking narrows
			var usages []asn1.ObjectIdentifier
			if rest, err := asn1.Unmarshal(extension.Value, &usages); err != nil || len(rest) > 0 {
				return refuse("csr", "its extended key usage cannot be read")
			}
			for _, powerful := range []asn1.ObjectIdentifier{profile.OCSPSigning, profile.TimeStamping, profile.AnyExtKeyUsage, profile.CodeSigning} {
				if slices.ContainsFunc(usages, powerful.Equal) && !slices.ContainsFunc(p.ExtKeyUsage, powerful.Equal) {
					return refuse("csr", "it asks for extended key usage %s, which profile %s does not give", powerful, p.Name)
				}
			}
		case extension.Id.Equal(oidOCSPNoCheck) && !p.Status.NoCheck:
			return refuse("csr", "it asks for ocsp-nocheck, which profile %s does not give", p.Name)
		}
	}
	return nil
}

// checkLimits refuses the CSR of a CA that asks for a limit, on paths, names, usages or policies, that the profile does
// not set as narrowly: the requester would rely on a limit that the certificate lacks.
func checkLimits(p *profile.Profile, csr *x509.CertificateRequest) error {
	asked, err := AskedOf(csr)
	if err != nil {
		return err
	}
	if what := policy.Wider(p.CA, &asked); what != "" {
		return refuse("csr", "what profile %s gives is wider than what it asks for: %s", p.Name, what).
			WithHint("leave that out of the request, or have an administrator make a profile that gives exactly that")
	}
	return nil
}

// namesOf returns the requested names and subject: those of the request, else those of the CSR.
func namesOf(o order, csr *x509.CertificateRequest) ([]pki.Identifier, Subject, error) {
	subject := o.Subject
	if subject.CommonName == "" {
		subject.CommonName = csr.Subject.CommonName
	}
	for i, name := range o.Names {
		if canonical, err := pki.NewIdentifier(name.Type, name.Value); err != nil || canonical != name {
			return nil, subject, pki.Errorf(pki.KindInvalid, "read request", "%q is not a name in canonical form", clip(name.Value, 64)).
				InField(policy.NameField(i))
		}
	}
	if len(o.Names) > 0 {
		return o.Names, subject, nil
	}
	var asked []pki.Identifier // as in the CSR, not canonical
	for t, name := range pki.RequestNames(csr) {
		asked = append(asked, pki.Identifier{Type: t, Value: name})
	}
	if len(asked) == 0 && o.profile.Names.Min > 0 && csr.Subject.CommonName != "" {
		// Old tools name a host in the common name only. Treat it as a DNS name or an IP address.
		asked = append(asked, pki.Identifier{Type: hostType(csr.Subject.CommonName), Value: csr.Subject.CommonName})
	}
	if len(asked) > maxAskedNames {
		return nil, subject, pki.Errorf(pki.KindInvalid, "read certificate request", "%d names are more than %d", len(asked), maxAskedNames).InField("csr")
	}
	names := make([]pki.Identifier, 0, len(asked))
	for i, name := range asked {
		id, err := pki.NewIdentifier(name.Type, name.Value)
		if err != nil {
			return nil, subject, pki.Errorf(pki.KindInvalid, "read certificate request", "name %d: %w", i, err).InField("csr")
		}
		names = append(names, id)
	}
	return names, subject, nil
}

func hostType(name string) pki.IdentifierType {
	if net.ParseIP(name) != nil {
		return pki.IP
	}
	return pki.DNS
}

// Digest returns a SHA-256 over everything that decides what would be issued. Repeats of a request have the same.
func (r Request) Digest() [sha256.Size]byte {
	if r.renews() { // only what the caller gave: the rest depends on state that may change before a repeat
		return sha256.Sum256(slices.Concat([]byte("renewal"), r.Renews[:], r.CSR))
	}
	text, err := json.Marshal(struct {
		Profile  string
		Issuer   pki.IssuerID
		CSR      []byte
		Names    []pki.Identifier
		Subject  Subject
		Lifetime time.Duration
		NotAfter time.Time
	}{r.Profile, r.Issuer, r.CSR, r.Names, r.Subject, r.Lifetime, r.NotAfter.UTC()})
	if err != nil {
		panic("ca: a request always encodes: " + err.Error())
	}
	return sha256.Sum256(text)
}

// repeat returns the certificate that was issued for the request id before, or nil if none was.
func (a *Authority) repeat(ctx context.Context, account string, request Request) (*Issued, error) {
	answered, err := a.config.Certificates.FindRequest(ctx, account, request.RequestID)
	if pki.KindOf(err) == pki.KindNotFound && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if answered.Digest != request.Digest() {
		return nil, requestIDUsed(request.RequestID)
	}
	if !answered.Approval.IsZero() { // the profile needed an approval then
		return nil, pki.Errorf(pki.KindConflict, "issue certificate", "request id %q was filed for approval as request %s", request.RequestID, answered.Approval).
			InField("request_id").WithHint("signet requests show %s, or use a new id", answered.Approval)
	}
	issued := &Issued{Certificate: answered.Certificate, Repeated: true}
	if issuer, err := a.issuers.find(answered.Certificate.Issuer); err == nil {
		issued.Chain = a.chain(ctx, &issuer)
	}
	return issued, nil
}

func requestIDUsed(id string) error {
	return pki.Errorf(pki.KindConflict, "issue certificate", "request id %q was used for another request within 24 hours", id).
		InField("request_id").WithHint("use a new id for a new request; to repeat one, send the same request again, with the same CSR: signet issue --csr FILE")
}
