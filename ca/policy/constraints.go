package policy

import (
	"net/netip"
	"net/url"
	"strings"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// Constraints are the name constraints of one CA certificate in the chain above the certificate to be issued.
type Constraints struct {
	Subject   string // of the CA, for the refusal
	Permitted profile.Subtrees
	Excluded  profile.Subtrees
}

const constrained = "no profile changes the name constraints of an authority: ask another issuer, or for another name"

// CheckConstraints refuses names that a CA of the chain excludes or does not permit (RFC 5280, Section 4.2.1.10).
// Verifiers would refuse the certificate.
func CheckConstraints(chain []Constraints, names []pki.Identifier) error {
	for _, c := range chain {
		for i, name := range names {
			if covers(c.Excluded, name, true) {
				return refuse(NameField(i), "%s excludes %s", c.Subject, name).WithHint(constrained)
			}
			if constrains(c.Permitted, name.Type) && !covers(c.Permitted, name, false) {
				return refuse(NameField(i), "%s does not permit %s", c.Subject, name).WithHint(constrained)
			}
		}
	}
	return nil
}

func constrains(s profile.Subtrees, kind pki.IdentifierType) bool {
	switch kind {
	case pki.DNS:
		return len(s.DNS) > 0
	case pki.IP:
		return len(s.IP) > 0
	case pki.Email:
		return len(s.Email) > 0
	case pki.URI:
		return len(s.URI) > 0
	}
	return false
}

func covers(s profile.Subtrees, name pki.Identifier, excluding bool) bool {
	switch name.Type {
	case pki.DNS:
		for _, base := range s.DNS {
			if below(name.Value, base, excluding) {
				return true
			}
		}
	case pki.IP:
		addr, err := netip.ParseAddr(name.Value)
		for _, prefix := range s.IP {
			if err == nil && prefix.Contains(addr) {
				return true
			}
		}
	case pki.Email:
		for _, constraint := range s.Email {
			if belowMail(name.Value, constraint, excluding) {
				return true
			}
		}
	case pki.URI:
		u, err := url.Parse(name.Value)
		if err != nil {
			return excluding
		}
		if _, err := netip.ParseAddr(u.Hostname()); err == nil {
			return excluding && len(s.URI) > 0 // RFC 5280: URI constraints apply to host names, never to addresses
		}
		host := strings.TrimSuffix(u.Hostname(), ".")
		for _, constraint := range s.URI {
			if belowHost(host, constraint, excluding) {
				return true
			}
		}
	}
	return false
}

// below reports whether a DNS name is the base or lies below it. "*.base" lies below base, and every name below the
// empty base. If the base of a permitted subtree begins with a period, which other programs write, the base itself is
// not covered, as in verifiers (decision 1260). Case is ignored in both, because the base may come from a foreign CA.
func below(name, base string, excluding bool) bool {
	name, base = strings.ToLower(name), strings.ToLower(base)
	bare, dotted := strings.CutPrefix(base, ".")
	if base == "" || strings.HasSuffix(name, "."+bare) || name == bare && (excluding || !dotted) {
		return true
	}
	return excluding && wildcardMeets(name, bare)
}

// wildcardMeets reports whether "*.parent" could stand for the excluded name itself.
func wildcardMeets(name, excluded string) bool {
	parent, wildcard := strings.CutPrefix(name, "*.")
	_, excludedParent, _ := strings.Cut(excluded, ".")
	return wildcard && excludedParent == parent
}

// belowHost is below for the hosts of email addresses and URIs. A base with a leading dot covers every host below it,
// one without only that host, and the empty base every host. Case is ignored in both.
func belowHost(host, base string, _ bool) bool {
	host, base = strings.ToLower(host), strings.ToLower(base)
	if base == "" || strings.HasPrefix(base, ".") {
		return strings.HasSuffix(host, base)
	}
	return base == host
}

// belowMail is below for a mailbox, whose host it compares, or for another constraint. The base may also be a mailbox.
func belowMail(name, base string, excluding bool) bool {
	return belowHost(name[strings.LastIndexByte(name, '@')+1:], base, excluding) || coversMailbox(base, name, excluding)
}

// coversMailbox reports whether a constraint that is one mailbox covers a name. Local parts are case-sensitive (RFC
// 5280, Section 7.5), but most systems ignore their case when they deliver mail, so an exclusion ignores it too.
func coversMailbox(constraint, name string, excluding bool) bool {
	at := strings.LastIndexByte(constraint, '@')
	if at < 0 || !strings.EqualFold(constraint, name) {
		return false
	}
	return excluding || constraint[:at] == name[:at]
}
