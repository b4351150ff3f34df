package ca

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// attribute is a kind of attribute of a distinguished name, with the bound of RFC 5280, Appendix A.1.
type attribute struct {
	name      string // in configuration
	short     string // RFC 4514
	oid       asn1.ObjectIdentifier
	printable bool
	max       int
	of        func(*Subject) []string
}

// attributes are in the order of encoding, widest first; the common name follows them.
var attributes = []attribute{
	{"country", "C", asn1.ObjectIdentifier{2, 5, 4, 6}, true, 2, func(s *Subject) []string { return s.Country }},
	{"province", "ST", asn1.ObjectIdentifier{2, 5, 4, 8}, false, 128, func(s *Subject) []string { return s.Province }},
	{"locality", "L", asn1.ObjectIdentifier{2, 5, 4, 7}, false, 128, func(s *Subject) []string { return s.Locality }},
	{"organization", "O", asn1.ObjectIdentifier{2, 5, 4, 10}, false, 64, func(s *Subject) []string { return s.Organization }},
	{"organizational_unit", "OU", asn1.ObjectIdentifier{2, 5, 4, 11}, false, 64, func(s *Subject) []string { return s.OrganizationalUnit }},
	{"serial_number", "serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}, true, 64, func(s *Subject) []string {
		if s.SerialNumber == "" {
			return nil
		}
		return []string{s.SerialNumber}
	}},
}

// maxValues bounds the values of one attribute in a requested name.
const maxValues = 16

var commonName = attribute{"common_name", "CN", asn1.ObjectIdentifier{2, 5, 4, 3}, false, 64, nil}

// subject is a distinguished name.
type subject struct {
	der    []byte
	text   string // RFC 4514
	common string // its common name; empty if it has none, or is that of an issuer
}

// subjectFor returns the subject: the attributes that the profile takes from the request and those that it sets. It
// refuses a request for any other attribute, rather than issue a certificate that silently lacks it.
func subjectFor(p *profile.Profile, requested Subject, names []pki.Identifier) (s subject, err error) {
	var rdns []rdn
	for _, a := range attributes {
		values := a.of(&requested)
		switch set, isSet := p.Subject.Set[a.name]; {
		case isSet:
			values = set
		case len(values) > 0 && !slices.Contains(p.Subject.Take, a.name):
			return subject{}, refuse("subject."+a.name, "profile %s does not take it from a request", p.Name)
		case len(values) > maxValues:
			return subject{}, refuse("subject."+a.name, "%d values are more than %d", len(values), maxValues)
		}
		for _, value := range values {
			rdns = append(rdns, rdn{a, value})
		}
	}
	if s.common, err = commonNameFor(p, requested.CommonName, names); err != nil {
		return subject{}, err
	}
	if s.common != "" {
		rdns = append(rdns, rdn{commonName, s.common})
	}
	s.text = describe(rdns)
	s.der, err = encodeName(rdns)
	return s, err
}

func commonNameFor(p *profile.Profile, requested string, names []pki.Identifier) (string, error) {
	switch p.Subject.CommonName {
	case profile.CommonNameFirst:
		if len(names) > 0 && len(names[0].Value) <= commonName.max {
			return names[0].Value, nil
		}
		return "", nil
	case profile.CommonNameRequired:
		if requested == "" {
			return "", refuse("subject.common_name", "profile %s requires one", p.Name)
		}
		return requested, nil
	case profile.CommonNameOptional:
		return requested, nil
	}
	return "", nil // not refused, because old tools put a common name into every CSR
}

type rdn struct {
	attribute
	value string
}

// describe returns the name as in RFC 4514, the last attribute first, for people.
func describe(rdns []rdn) string {
	var b strings.Builder
	for i := len(rdns) - 1; i >= 0; i-- {
		b.WriteString(rdns[i].short)
		b.WriteByte('=')
		b.WriteString(escaper.Replace(rdns[i].value))
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}

// escaper puts a backslash before the characters that RFC 4514, Section 2.4 reserves.
var escaper = strings.NewReplacer(",", `\,`, "+", `\+`, `"`, `\"`, `\`, `\\`, "<", `\<`, ">", `\>`, ";", `\;`, "#", `\#`)

func encodeName(rdns []rdn) ([]byte, error) {
	for _, r := range rdns {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, r := range rdns {
			b.AddASN1(cryptobyte_asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(r.oid)
					tag := cryptobyte_asn1.UTF8String
					if r.printable {
						tag = cryptobyte_asn1.PrintableString
					}
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(r.value)) })
				})
			})
		}
	})
	return b.Bytes()
}

func (r rdn) check() error {
	field := "subject." + r.name
	if r.value == "" || utf8.RuneCountInString(r.value) > r.max || !utf8.ValidString(r.value) {
		return refuse(field, "want 1 to %d characters", r.max)
	}
	if r.value != strings.TrimSpace(r.value) {
		return refuse(field, "begins or ends with a space")
	}
	for _, c := range r.value {
		if pki.Unprintable(c) || (r.printable && !printable(c)) {
			return refuse(field, "has the character %q", c)
		}
	}
	return nil
}

// printable reports whether PrintableString has the character (X.680, Section 41.4).
func printable(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(" '()+,-./:=?", c)
}

// usageFor drops key usages that an algorithm does not support. Only RSA enciphers keys. For elliptic curves,
// keyAgreement takes the place of encipherment (RFC 8813, Section 3). Ed25519 and ML-DSA only sign (RFC 8410, Section
// 5; RFC 9881, Section 5).
func usageFor(usage profile.KeyUsage, key any) profile.KeyUsage {
	const agreement = profile.KeyAgreement | profile.EncipherOnly | profile.DecipherOnly
	const encipherment = profile.KeyEncipherment | profile.DataEncipherment
	switch key.(type) {
	case *ecdsa.PublicKey:
		if usage&encipherment != 0 {
			usage = usage&^encipherment | profile.KeyAgreement
		}
	case *rsa.PublicKey:
		usage &^= agreement
	default:
		usage &^= encipherment | agreement
	}
	return usage
}
