package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/crl"
)

// Name constraints follow RFC 5280, Section 4.2.1.10, to the letter, for all forms of names that it defines a matching
// for. crypto/x509 refuses constraints on directory names, lets a host in a constraint on addresses or URIs cover the
// hosts below it, applies constraints to self-issued intermediates, and ignores addresses in the subject.

// form is the tag of a GeneralName (RFC 5280, Section 4.2.1.6).
type form uint8

const (
	formEmail     form = 1
	formDNS       form = 2
	formDirectory form = 4
	formURI       form = 6
	formIP        form = 7
)

// subtree is one GeneralSubtree.
type subtree struct {
	form    form
	base    string // as generalName.text
	partial bool   // it has a minimum or a maximum, which RFC 5280 does not allow: the meaning is unknown
}

// constraints is the name constraints extension of one CA.
type constraints struct{ permitted, excluded []subtree }

// generalName is one name of a certificate. The text is the content octets; a directory name is in the form of
// crl.CanonicalName.
type generalName struct {
	form form
	text string
}

const (
	maxPairs       = 1 << 20 // names of one certificate times constraints of one CA
	maxComparisons = 1 << 24 // comparisons of names with constraints in one case
)

// constraintCheck holds the number of comparisons that are left for one case.
type constraintCheck struct{ left int }

// chain checks RFC 5280, Section 6.1.3 (b) and (c). The constraints of a trust anchor apply too, as in crypto/x509.
func (k *constraintCheck) chain(chain []*x509.Certificate) *fault {
	for i, ca := range chain[1:] {
		value, constrained := extension(ca, oidNameConstraints)
		if !constrained {
			continue
		}
		limits, ok := parseConstraints(value)
		if !ok {
			return faultf(ClassUnsupported, "the name constraints of %.80q are not understood", ca.Subject)
		}
		for j, c := range chain[:i+1] {
			if j > 0 && selfIssued(c) {
				continue
			}
			names, ok := namesOf(c)
			if !ok {
				return faultf(ClassPath, "the names of %.80q do not parse", c.Subject)
			}
			pairs := len(names) * (len(limits.permitted) + len(limits.excluded))
			if k.left -= pairs; k.left < 0 || pairs > maxPairs {
				return faultf(ClassUnsupported, "names and name constraints are too many to compare")
			}
			for _, name := range names {
				if bad := limits.check(name, c); bad != nil {
					return bad
				}
			}
		}
	}
	return nil
}

// check compares one name with the constraints of one CA. The name must be in a permitted subtree, if there is one of
// its form, and in no excluded one.
func (limits constraints) check(name generalName, of *x509.Certificate) *fault {
	constrained, permitted := false, false
	for i, tree := range slices.Concat(limits.permitted, limits.excluded) {
		if tree.form != name.form {
			continue
		}
		if tree.partial || !name.form.known() {
			return faultf(ClassUnsupported, "a constraint on names of its form (%d) is not understood", name.form)
		}
		if !name.comparable() {
			return faultf(ClassPath, "%s cannot be compared with the constraint on it", name.describe(of))
		}
		if i >= len(limits.permitted) {
			if name.within(tree.base) || name.reaches(tree.base) {
				return faultf(ClassPath, "%s is excluded by a constraint", name.describe(of))
			}
			continue
		}
		constrained, permitted = true, permitted || name.within(tree.base)
	}
	if constrained && !permitted {
		return faultf(ClassPath, "%s is not permitted by any constraint", name.describe(of))
	}
	return nil
}

// describe returns a name in a form for people. A directory name is in a form for comparison, so the certificate is
// named instead.
func (n generalName) describe(of *x509.Certificate) string {
	switch n.form {
	case formDirectory:
		return fmt.Sprintf("a directory name of %.80q", of.Subject)
	case formIP:
		return "address " + net.IP(n.text).String()
	}
	return fmt.Sprintf("name %.80q", n.text)
}

func (f form) known() bool {
	return f == formEmail || f == formDNS || f == formDirectory || f == formURI || f == formIP
}

// comparable reports whether a name has the parts that constraints apply to. If not, it is refused where its form is
// constrained; RFC 5280 demands this explicitly for URIs.
func (n generalName) comparable() bool {
	switch n.form {
	case formEmail:
		local, host := mailbox(n.text)
		return isLocalPart(local) && isHost(host)
	case formDNS:
		return isHost(n.text)
	case formURI:
		return isHost(uriHost(n.text))
	case formIP:
		return len(n.text) == 4 || len(n.text) == 16
	}
	return true
}

// within reports whether a name is in the subtree of a constraint.
func (n generalName) within(base string) bool {
	switch n.form {
	case formDirectory:
		return strings.HasPrefix(n.text, base)
	case formDNS:
		return below(n.text, base) || strings.EqualFold(n.text, base)
	case formIP:
		return inNetwork(n.text, base)
	case formURI:
		return hostMatches(uriHost(n.text), base)
	case formEmail:
		local, host := mailbox(n.text)
		if wanted, at := mailbox(base); wanted != "" {
			return local == wanted && strings.EqualFold(host, at)
		}
		return hostMatches(host, base)
	}
	return false
}

// reaches reports whether a wildcard covers the name in a constraint: *.example.com covers www.example.com.
func (n generalName) reaches(base string) bool {
	if n.form != formDNS || !strings.HasPrefix(n.text, "*.") {
		return false
	}
	_, parent, found := strings.Cut(base, ".")
	return found && strings.EqualFold(parent, n.text[2:])
}

// hostMatches compares hosts of addresses and URIs: a constraint covers the hosts below it only with a leading period.
func hostMatches(host, base string) bool {
	return base == "" || strings.HasPrefix(base, ".") && below(host, base) || strings.EqualFold(host, base)
}

// below reports whether a host has more labels than base and ends in base. A leading period of base makes no
// difference.
func below(host, base string) bool {
	if base == "" {
		return true
	}
	base = "." + strings.TrimPrefix(base, ".")
	return len(host) > len(base) && strings.EqualFold(host[len(host)-len(base):], base)
}

func isHost(name string) bool {
	return name != "" && !slices.Contains(strings.Split(name, "."), "")
}

func mailbox(address string) (local, host string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return "", address
	}
	return address[:at], address[at+1:]
}

// isLocalPart reports whether the part of an address before the host has the characters of a Dot-string or is a
// Quoted-string (RFC 5321, Section 4.1.2). Otherwise a reader that does not split at the last @ finds another host.
func isLocalPart(local string) bool {
	quoted := len(local) > 1 && local[0] == '"' && local[len(local)-1] == '"'
	return quoted || local != "" && !strings.ContainsAny(local, "@\"(),:;<>[] ")
}

// uriHost returns the host name of a URI; empty if it has none or has an IP address.
func uriHost(text string) string {
	uri, err := url.Parse(text)
	if err != nil {
		return ""
	}
	host := uri.Hostname()
	if strings.Contains(host, ":") || strings.Trim(host, "0123456789.") == "" {
		return ""
	}
	return host
}

// inNetwork reports whether an address is in a network, which is an address followed by a mask.
func inNetwork(address, base string) bool {
	if len(base) != 2*len(address) {
		return false
	}
	for i := range len(address) {
		mask := base[len(address)+i]
		if address[i]&mask != base[i]&mask {
			return false
		}
	}
	return true
}

var (
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEmailAddress    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

func parseConstraints(value []byte) (c constraints, ok bool) {
	var all, trees cryptobyte.String
	input := cryptobyte.String(value)
	if !input.ReadASN1(&all, cryptobyteasn1.SEQUENCE) || !input.Empty() {
		return constraints{}, false
	}
	for tag, into := range []*[]subtree{&c.permitted, &c.excluded} {
		var present bool
		if !all.ReadOptionalASN1(&trees, &present, cryptobyteasn1.Tag(tag).ContextSpecific().Constructed()) {
			return constraints{}, false
		}
		for present && !trees.Empty() {
			var one cryptobyte.String
			var name generalName
			if !trees.ReadASN1(&one, cryptobyteasn1.SEQUENCE) || !readGeneralName(&one, &name) {
				return constraints{}, false
			}
			*into = append(*into, subtree{name.form, name.text, !one.Empty()})
		}
	}
	return c, all.Empty()
}

// namesOf returns all names of a certificate that constraints apply to.
func namesOf(c *x509.Certificate) (names []generalName, ok bool) {
	subject, ok := crl.CanonicalName(c.RawSubject)
	if !ok {
		return nil, false
	}
	if subject != "" {
		names = append(names, generalName{formDirectory, subject})
	}
	value, has := extension(c, oidAlternativeName)
	if !has {
		// Before there were alternative names, addresses stood in the subject.
		for _, attribute := range c.Subject.Names {
			if address, isText := attribute.Value.(string); isText && attribute.Type.Equal(oidEmailAddress) {
				names = append(names, generalName{formEmail, address})
			}
		}
		return names, true
	}
	var all cryptobyte.String
	input := cryptobyte.String(value)
	if !input.ReadASN1(&all, cryptobyteasn1.SEQUENCE) {
		return nil, false
	}
	for !all.Empty() {
		var name generalName
		if !readGeneralName(&all, &name) {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

func readGeneralName(from *cryptobyte.String, name *generalName) bool {
	var content cryptobyte.String
	var tag cryptobyteasn1.Tag
	if !from.ReadAnyASN1(&content, &tag) || tag&0xc0 != 0x80 || tag&0x1f > 8 {
		return false
	}
	name.form, name.text = form(tag&0x1f), string(content)
	if name.form != formDirectory {
		return true
	}
	var ok bool
	name.text, ok = crl.CanonicalName(content)
	return ok
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }
