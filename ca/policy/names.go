// Package policy decides whether names and keys may be certified. It applies the profile, the limits of the issuer's
// chain (name constraints, extended key usages, certificate policies) and the list of weak keys. All functions are
// pure. A refusal is a *pki.Error of KindRefused that names the field at fault.
package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

const op = "check policy"

func refuse(field, format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindRefused, op, format, args...).InField(field)
}

// NameField returns the field that an error about name i of a request names.
func NameField(i int) string { return fmt.Sprintf("identifiers[%d]", i) }

// CheckNames refuses names that the profile does not allow, duplicate names, and too few or too many names.
func CheckNames(p *profile.Profile, names []pki.Identifier) error {
	if len(names) < p.Names.Min {
		return refuse("identifiers", "profile %s wants at least %d names, not %d", p.Name, p.Names.Min, len(names))
	}
	if len(names) > p.Names.Max {
		return refuse("identifiers", "profile %s allows at most %d names, not %d", p.Name, p.Names.Max, len(names))
	}
	seen := make(map[pki.Identifier]int, len(names))
	for i, name := range names {
		if first, twice := seen[name]; twice {
			return refuse(NameField(i), "%s is name %d already", name, first).WithHint("leave one of them out")
		}
		seen[name] = i
		if err := checkName(p, i, name); err != nil {
			return err
		}
	}
	return nil
}

func checkName(p *profile.Profile, i int, name pki.Identifier) error {
	if name.Wildcard() && !p.Names.Wildcards {
		return refuse(NameField(i), "profile %s allows no wildcards: %s", p.Name, name)
	}
	typed, allowed := false, false
	for _, pattern := range p.Names.Patterns {
		if pattern.Type != name.Type {
			continue
		}
		typed = true
		if !matches(pattern, name) {
			continue
		}
		if pattern.Deny {
			return refuse(NameField(i), "profile %s denies %s", p.Name, name)
		}
		allowed = true
	}
	switch {
	case allowed:
		return nil
	case !typed:
		return refuse(NameField(i), "profile %s allows no %s names: %s", p.Name, name.Type, name)
	}
	return refuse(NameField(i), "profile %s does not allow %s", p.Name, name)
}

// matches reports whether a pattern covers a name. A pattern that denies also covers a wildcard that matches a denied
// name.
func matches(pattern profile.Pattern, name pki.Identifier) bool {
	if pattern.Any {
		return true
	}
	switch name.Type {
	case pki.DNS:
		base, wildcard := strings.CutPrefix(name.Value, "*.")
		if pattern.Deny && wildcard && coversWildcard(pattern, base) {
			return true
		}
		return pattern.Exact == name.Value || (pattern.Suffix != "" && strings.HasSuffix(name.Value, pattern.Suffix))
	case pki.Email:
		if pattern.Exact != "" { // most mail systems ignore the case of a mailbox
			return pattern.Exact == name.Value || pattern.Deny && strings.EqualFold(pattern.Exact, name.Value)
		}
		return strings.HasSuffix(name.Value, pattern.Suffix) // "@host" or ".domain"
	case pki.IP:
		addr, err := netip.ParseAddr(name.Value)
		return err == nil && pattern.Net.Contains(addr)
	case pki.URI:
		if pattern.Deny {
			return deniesURI(pattern, name.Value)
		}
		return pattern.Exact == name.Value || (pattern.Prefix != "" && strings.HasPrefix(name.Value, pattern.Prefix) && !hasDotSegment(name.Value))
	}
	return false
}

// coversWildcard reports whether "*.base" could stand for a name that the pattern denies.
func coversWildcard(pattern profile.Pattern, base string) bool {
	if pattern.Exact != "" {
		_, parent, _ := strings.Cut(pattern.Exact, ".")
		return parent == base
	}
	return strings.HasSuffix("."+base, pattern.Suffix)
}

// hasDotSegment reports whether the path of a URI can lead out of a prefix, by a dot segment, an encoded dot or slash,
// or a backslash. A path ends before the query or fragment (RFC 3986, Section 3.3).
func hasDotSegment(uri string) bool {
	if end := strings.IndexAny(uri, "?#"); end >= 0 {
		uri = uri[:end]
	}
	lower := strings.ToLower(uri)
	return strings.Contains(lower, "/../") || strings.HasSuffix(lower, "/..") || strings.Contains(lower, "%2e") || strings.Contains(lower, "%2f") ||
		strings.Contains(lower, `\`) || strings.Contains(lower, "%5c") // which browsers read as a slash
}

// deniesURI reports whether a pattern denies a URI, in whatever equivalent form the URI is written.
func deniesURI(pattern profile.Pattern, uri string) bool {
	meant := plainURI(uri)
	if pattern.Exact != "" {
		return meant == plainURI(pattern.Exact)
	}
	return strings.HasPrefix(meant, plainURI(pattern.Prefix))
}

// plainURI normalizes a URI: it decodes percent-encoding, resolves dot segments and omits the default port of the
// scheme (RFC 3986, Section 6.2).
func plainURI(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return uri
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	walked := path.Clean("/" + strings.ReplaceAll(u.Path, `\`, "/"))
	if strings.HasSuffix(u.Path, "/") && walked != "/" {
		walked += "/"
	}
	query := ""
	if u.RawQuery != "" {
		query = "?" + u.RawQuery
	}
	return u.Scheme + "://" + host + walked + query
}

// CheckCommonName refuses a common name that looks like a host name or address but is none of the names, because
// software that still reads common names would trust it unchecked.
func CheckCommonName(name string, names []pki.Identifier) error {
	if name == "" {
		return nil
	}
	if len(name) > 64 { // RFC 5280, Appendix A.1: ub-common-name
		return refuse("subject.common_name", "is longer than 64 characters")
	}
	for _, c := range name {
		if pki.Unprintable(c) || c == utf8.RuneError {
			return refuse("subject.common_name", "has a control character")
		}
	}
	if !strings.ContainsAny(name, ".:") {
		return nil
	}
	id, isHost := hostIn(name)
	if !isHost || slices.Contains(names, id) {
		return nil
	}
	return refuse("subject.common_name", "%q looks like a %s name and is not among the identifiers", name, id.Type).
		WithHint("ask for it as an identifier too")
}

// likeHost maps characters that software accepts in host names, but pki.NewIdentifier does not, to ones that it
// accepts: underscores, and asterisks anywhere.
var likeHost = strings.NewReplacer("_", "x", "*", "x")

// hostIn returns the identifier that software would read from a common name, and whether it would read one. For a host
// that cannot be an identifier, such as one with an underscore or a trailing dot, it returns one that equals no other.
func hostIn(name string) (pki.Identifier, bool) {
	if _, err := netip.ParseAddr(name); err == nil {
		id, err := pki.NewIdentifier(pki.IP, name)
		if err != nil { // an IPv4-mapped address, or one with a zone
			id.Type = pki.IP
		}
		return id, true
	}
	if id, err := pki.NewIdentifier(pki.DNS, name); err == nil {
		return id, true
	}
	_, err := pki.NewIdentifier(pki.DNS, likeHost.Replace(strings.TrimSuffix(name, ".")))
	return pki.Identifier{Type: pki.DNS}, err == nil
}
