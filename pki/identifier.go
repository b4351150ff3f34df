package pki

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// IdentifierType is the kind of a name in subjectAltName. Zero is no type.
type IdentifierType uint8

// The types of names that Signet puts into certificates (RFC 5280, Section 4.2.1.6).
const (
	DNS IdentifierType = iota + 1
	IP
	Email
	URI
)

var identifierTypeNames = [...]string{"", "dns", "ip", "email", "uri"}

// String returns the lower-case word used in the API and in profiles.
func (t IdentifierType) String() string {
	if int(t) < len(identifierTypeNames) {
		return identifierTypeNames[t]
	}
	return ""
}

// ParseIdentifierType reads "dns", "ip", "email" or "uri".
func ParseIdentifierType(text string) (IdentifierType, error) {
	for t, name := range identifierTypeNames {
		if name != "" && name == text {
			return IdentifierType(t), nil
		}
	}
	return 0, fmt.Errorf("identifier type %q: want dns, ip, email or uri", clip(text))
}

// Identifier is one name of a certificate in canonical form. It is comparable: two identifiers are the same name
// exactly if they are ==. Make one with NewIdentifier, which normalises; nothing downstream normalises again.
type Identifier struct {
	Type  IdentifierType
	Value string
}

// NewIdentifier validates and normalises a name:
//   - dns: lower-case A-labels (IDNA 2008, UTS #46 non-transitional), at most 253 octets, a wildcard only as the whole
//     first label, no trailing dot, not an IP address;
//   - ip: as net/netip writes it, IPv4-mapped IPv6 refused, no zone;
//   - email: ASCII local part as given (it is case-sensitive: RFC 5280, Section 7.5), domain as for dns;
//   - uri: absolute, with scheme and host in lower case, no user information (RFC 5280, Section 4.2.1.6).
func NewIdentifier(t IdentifierType, value string) (Identifier, error) {
	var canonical string
	var err error
	switch t {
	case DNS:
		canonical, err = normalizeDNS(value)
	case IP:
		canonical, err = normalizeIP(value)
	case Email:
		canonical, err = normalizeEmail(value)
	case URI:
		canonical, err = normalizeURI(value)
	default:
		return Identifier{}, fmt.Errorf("identifier %q has no type", clip(value))
	}
	if err != nil {
		return Identifier{}, fmt.Errorf("%s name %q: %w", t, clip(value), err)
	}
	return Identifier{t, canonical}, nil
}

// ParseIdentifier reads "type:value", or guesses the type of a bare value: an address is an IP, a value with a scheme a
// URI, one with an @ an email address, anything else a DNS name.
func ParseIdentifier(text string) (Identifier, error) {
	if prefix, rest, ok := strings.Cut(text, ":"); ok {
		if t, err := ParseIdentifierType(prefix); err == nil {
			return NewIdentifier(t, rest)
		}
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return NewIdentifier(IP, text)
	}
	if strings.Contains(text, "://") {
		return NewIdentifier(URI, text)
	}
	if strings.Contains(text, "@") {
		return NewIdentifier(Email, text)
	}
	return NewIdentifier(DNS, text)
}

// String returns "type:value", which ParseIdentifier reads.
func (id Identifier) String() string { return id.Type.String() + ":" + id.Value }

// Wildcard reports whether the identifier is a DNS name whose first label is an asterisk.
func (id Identifier) Wildcard() bool { return id.Type == DNS && strings.HasPrefix(id.Value, "*.") }

// dnsProfile is IDNA 2008 lookup with the checks against hostile names. Labels that are already ASCII must also consist
// of letters, digits and hyphens.
var dnsProfile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.BidiRule())

func normalizeDNS(value string) (string, error) {
	// The IDNA tables would read an invalid octet as U+FFFD and encode that.
	if !utf8.ValidString(value) || strings.ContainsRune(value, utf8.RuneError) {
		return "", fmt.Errorf("not valid UTF-8")
	}
	name, wildcard := strings.CutPrefix(value, "*.")
	if strings.ContainsRune(name, '*') {
		return "", fmt.Errorf("an asterisk is allowed only as the whole first label")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("this is an IP address: ask for it as an ip name")
	}
	if strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("a trailing dot does not belong in a certificate")
	}
	if strings.ContainsFunc(name, unicode.IsSpace) {
		return "", fmt.Errorf("not a host name: there is a space in it")
	}
	if strings.ContainsRune(name, ',') {
		return "", fmt.Errorf("not a host name: there is a comma in it; give several names one by one")
	}
	ascii, err := dnsProfile.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("not a host name: %s", clip(err.Error())) // it may repeat the whole name
	}
	if last := ascii[strings.LastIndexByte(ascii, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("the last label of a host name cannot be a number")
	}
	if wildcard {
		ascii = "*." + ascii
	}
	if len(ascii) > 253 {
		return "", fmt.Errorf("longer than 253 octets")
	}
	return ascii, nil
}

func normalizeIP(value string) (string, error) {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return "", fmt.Errorf("not an IP address")
	}
	if addr.Zone() != "" {
		return "", fmt.Errorf("an address with a zone means nothing on another machine")
	}
	if addr.Is4In6() {
		return "", fmt.Errorf("write the IPv4 address %s itself", addr.Unmap())
	}
	return addr.String(), nil
}

func normalizeEmail(value string) (string, error) {
	at := strings.LastIndexByte(value, '@')
	if at <= 0 || at > 64 {
		return "", fmt.Errorf("want a local part of 1 to 64 octets, an @ and a domain")
	}
	for i := range at {
		if !atext(value[i]) || (value[i] == '.' && (i == 0 || i == at-1 || value[i-1] == '.')) {
			return "", fmt.Errorf("the part before the @ has a character that needs quoting")
		}
	}
	domain, err := normalizeDNS(value[at+1:])
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(domain, "*") {
		return "", fmt.Errorf("an asterisk is not allowed in an email address")
	}
	return value[:at+1] + domain, nil
}

// atext reports whether c may stand in a dot-atom (RFC 5322, Section 3.2.3).
func atext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) >= 0
}

func normalizeURI(value string) (string, error) {
	for i := range len(value) {
		if value[i] <= ' ' || value[i] >= 0x7f {
			return "", fmt.Errorf("only printable ASCII is allowed: percent-encode the rest")
		}
	}
	u, err := url.Parse(value)
	if err != nil {
		return "", fmt.Errorf("not a URI")
	}
	if u.Scheme == "" || u.Host == "" || u.Opaque != "" {
		return "", fmt.Errorf("want an absolute URI with a host")
	}
	if u.User != nil {
		return "", fmt.Errorf("user information does not belong in a certificate")
	}
	if len(value) > 2048 {
		return "", fmt.Errorf("longer than 2048 octets")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if err := plainAuthority(u); err != nil {
		return "", err
	}
	return u.String(), nil
}

// plainAuthority refuses hosts and ports with several spellings (RFC 3986, Section 6.2), so that another spelling does
// not evade a rule. An underscore is allowed: SPIFFE trust domains have them.
func plainAuthority(u *url.URL) error {
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || len(port) > 1 && port[0] == '0' {
		return fmt.Errorf("write the port without zeros before it, or leave it out with its colon")
	}
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		if plain := addr.Unmap().String(); plain != host {
			return fmt.Errorf("write the address %s itself", plain)
		}
		return nil
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			return fmt.Errorf("write an international host in A-labels (xn--)")
		}
	}
	if slices.Contains(strings.Split(strings.TrimSuffix(host, "."), "."), "") {
		return fmt.Errorf("the host has an empty label")
	}
	return nil
}
