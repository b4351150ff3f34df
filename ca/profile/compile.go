package profile

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/written"
	"signet.example/signet/pki"
)

// A problem is one mistake in a Config. Its path leads to it, through mapping keys and sequence indices.
type problem struct {
	path []any
	text string
}

type compiler struct {
	config   Config
	internal bool
	problems []problem
	p        Profile
}

func (c *compiler) report(text string, path ...any) {
	c.problems = append(c.problems, problem{path, text})
}

// compile validates a config. Every problem is reported, not only the first.
func compile(config Config, internal bool) (*Profile, []problem) {
	c := &compiler{config: config, internal: internal}
	c.p = Profile{Name: config.Name, Description: config.Description, Issuer: config.Issuer, Public: config.Public, Internal: internal}
	c.name()
	c.times()
	c.subject()
	c.names()
	c.keys()
	c.usages()
	c.objects()
	c.ca()
	c.status()
	c.access()
	c.lint()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	return &c.p, nil
}

func (c *compiler) name() {
	if err := keys.CheckName("", c.config.Name); err != nil {
		c.report("want 1 to 64 lower-case letters, digits, dots and hyphens", "name")
	}
}

func (c *compiler) times() {
	duration := func(text string, empty time.Duration, field string) time.Duration {
		if text == "" {
			return empty
		}
		d, err := written.ParseDuration(text)
		if err != nil {
			c.report(err.Error(), field)
		}
		return d
	}
	if c.config.Lifetime == "" {
		c.report("is required", "lifetime")
	}
	c.p.Lifetime = duration(c.config.Lifetime, 0, "lifetime")
	c.p.MaxLifetime = duration(c.config.MaxLifetime, c.p.Lifetime, "max_lifetime")
	c.p.Backdate = duration(c.config.Backdate, 0, "backdate")
	c.p.Retain = duration(c.config.Retain, 0, "retain")
	if c.p.MaxLifetime < c.p.Lifetime {
		c.report("is shorter than lifetime", "max_lifetime")
	}
	if c.p.Lifetime > 0 && c.p.Lifetime < time.Minute {
		c.report("is shorter than a minute", "lifetime")
	}
	if c.p.Backdate > 30*24*time.Hour {
		c.report("is longer than 30 days", "backdate")
	}
	if c.p.Lifetime > 0 && c.p.Backdate >= c.p.Lifetime {
		c.report("is not shorter than lifetime: certificates would be born expired", "backdate")
	}
}

func (c *compiler) subject() {
	s := c.config.Subject
	choose(c, &c.p.Subject.CommonName, s.CommonName, map[string]CommonName{
		"": CommonNameNone, "none": CommonNameNone, "first-name": CommonNameFirst, "optional": CommonNameOptional, "required": CommonNameRequired,
	}, "subject", "common_name")
	for i, attribute := range s.Take {
		if !slices.Contains(Attributes, attribute) {
			c.report("want one of "+strings.Join(Attributes, ", "), "subject", "take", i)
		}
		if _, set := s.Set[attribute]; set {
			c.report("is under set as well: keep one of the two", "subject", "take", i)
		}
	}
	for attribute, values := range s.Set {
		if !slices.Contains(Attributes, attribute) {
			c.report("want one of "+strings.Join(Attributes, ", "), "subject", "set", attribute)
		}
		for i, value := range values {
			if value == "" || len(value) > 64 || (attribute == "country" && !isCountry(value)) {
				c.report("is not a valid value", "subject", "set", attribute, i)
			}
		}
	}
	c.p.Subject.Take, c.p.Subject.Set = s.Take, s.Set
}

func isCountry(text string) bool {
	return len(text) == 2 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// maxNames bounds the names that a profile can allow, so that no certificate is too large for a TLS handshake.
const maxNames = 1000

func (c *compiler) names() {
	n := c.config.Names
	c.p.Names.Min, c.p.Names.Max = n.Min, n.Max
	if n.Max == 0 {
		c.p.Names.Max = 100
	}
	if c.p.Names.Max < 0 || c.p.Names.Max > maxNames {
		c.report(fmt.Sprintf("want 1 to %d", maxNames), "names", "max")
	}
	if n.Min < 0 || n.Min > c.p.Names.Max {
		c.report("want a number from 0 to max", "names", "min")
	}
	if n.DNS != nil {
		choose(c, &c.p.Names.Wildcards, n.DNS.Wildcards, map[string]bool{"": false, "deny": false, "allow": true}, "names", "dns", "wildcards")
		c.patterns(pki.DNS, ListConfig{n.DNS.Allow, n.DNS.Deny}, "dns")
	}
	for _, list := range []struct {
		kind   pki.IdentifierType
		config *ListConfig
	}{{pki.IP, n.IP}, {pki.Email, n.Email}, {pki.URI, n.URI}} {
		if list.config != nil {
			c.patterns(list.kind, *list.config, list.kind.String())
		}
	}
	if n.Min > 0 && !slices.ContainsFunc(c.p.Names.Patterns, func(p Pattern) bool { return !p.Deny }) {
		c.report("names are required, but no type of name is allowed", "names", "min")
	}
	if c.p.Subject.CommonName == CommonNameFirst && n.Min == 0 {
		c.report("takes the first name: set names.min to at least 1", "subject", "common_name")
	}
}

func (c *compiler) patterns(kind pki.IdentifierType, list ListConfig, field string) {
	if len(list.Allow) == 0 {
		c.report("allows no name: leave it out instead", "names", field)
	}
	for _, side := range []struct {
		deny  bool
		texts []string
		field string
	}{{false, list.Allow, "allow"}, {true, list.Deny, "deny"}} {
		for i, text := range side.texts {
			pattern, err := parsePattern(kind, text)
			if err != nil {
				c.report(err.Error(), "names", field, side.field, i)
				continue
			}
			pattern.Deny = side.deny
			c.p.Names.Patterns = append(c.p.Names.Patterns, pattern)
		}
	}
}

func parsePattern(kind pki.IdentifierType, text string) (Pattern, error) {
	pattern := Pattern{Type: kind}
	if text == "*" {
		pattern.Any = true
		return pattern, nil
	}
	switch kind {
	case pki.IP:
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || prefix.Masked() != prefix {
			return pattern, fmt.Errorf("%.64q is neither an address nor a prefix such as 10.0.0.0/8", text)
		}
		pattern.Net = prefix
		return pattern, nil
	case pki.URI:
		if prefix, ok := strings.CutSuffix(text, "*"); ok {
			if !strings.HasSuffix(prefix, "/") || !strings.Contains(prefix, "://") {
				return pattern, fmt.Errorf("%.64q: an asterisk stands only after a slash", text)
			}
			pattern.Prefix = prefix
			return pattern, nil
		}
	case pki.DNS, pki.Email:
		// Elsewhere "*." means every name below, so an operator who denies it would not expect to deny just one name.
		if below, ok := strings.CutPrefix(text, "*."); ok && kind == pki.DNS {
			return pattern, fmt.Errorf("%.64q: write %.64q for every name below; wildcards says whether names with an asterisk are among them", text, "."+below)
		}
		host, isEmail := text, false
		if kind == pki.Email {
			local, after, found := strings.Cut(text, "@")
			if !found {
				return pattern, fmt.Errorf("%.64q: want who@host, @host or @.domain", text)
			}
			host, isEmail = after, true
			if local != "" {
				break // one mailbox
			}
		}
		below, isSuffix := strings.CutPrefix(host, ".")
		if isSuffix || isEmail {
			id, err := pki.NewIdentifier(pki.DNS, below)
			if err != nil || id.Wildcard() {
				return pattern, fmt.Errorf("%.64q is not a domain", text)
			}
			pattern.Suffix = strings.Repeat("@", boolInt(isEmail && !isSuffix)) + strings.Repeat(".", boolInt(isSuffix)) + id.Value
			return pattern, nil
		}
	}
	id, err := pki.NewIdentifier(kind, text)
	if err != nil {
		return pattern, err
	}
	pattern.Exact = id.Value
	return pattern, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *compiler) keys() {
	choose(c, &c.p.Reuse, c.config.Keys.Reuse, map[string]Reuse{
		"": ReuseAllow, "allow": ReuseAllow, "account": ReuseAccount, "deny": ReuseDeny,
	}, "keys", "reuse")
	if len(c.config.Keys.Algorithms) == 0 {
		c.p.Algorithms = keys.All()
	}
	for i, text := range c.config.Keys.Algorithms {
		algorithm, err := keys.ParseAlgorithm(text)
		if err != nil {
			c.report(err.Error(), "keys", "algorithms", i)
		}
		c.p.Algorithms = append(c.p.Algorithms, algorithm)
	}
}

var keyUsages = map[string]KeyUsage{
	"digital_signature": DigitalSignature, "content_commitment": ContentCommitment, "key_encipherment": KeyEncipherment,
	"data_encipherment": DataEncipherment, "key_agreement": KeyAgreement, "key_cert_sign": KeyCertSign, "crl_sign": CRLSign,
	"encipher_only": EncipherOnly, "decipher_only": DecipherOnly,
}

var extKeyUsages = map[string]asn1.ObjectIdentifier{
	"server_auth": ServerAuth, "client_auth": ClientAuth, "code_signing": CodeSigning, "email_protection": EmailProtection,
	"time_stamping": TimeStamping, "ocsp_signing": OCSPSigning,
}

func (c *compiler) usages() {
	for i, text := range c.config.KeyUsage {
		usage, ok := keyUsages[text]
		if !ok {
			c.report("want one of "+sortedKeys(keyUsages), "key_usage", i)
		}
		c.p.KeyUsage |= usage
	}
	if c.p.KeyUsage == 0 {
		c.report("is required", "key_usage")
	}
	for i, text := range c.config.ExtendedKeyUsage {
		oid, ok := extKeyUsages[text]
		if !ok {
			var err error
			if oid, err = parseOID(text); err != nil {
				c.report("want a dotted OID or one of "+sortedKeys(extKeyUsages), "extended_key_usage", i)
				continue
			}
		}
		if oid.Equal(AnyExtKeyUsage) {
			c.report("anyExtendedKeyUsage permits everything: name the usages", "extended_key_usage", i)
		}
		if oid.Equal(OCSPSigning) && !c.internal {
			c.report("only Signet's own responders sign OCSP responses: they have the built-in profile ocsp-responder", "extended_key_usage", i)
		}
		if slices.ContainsFunc(c.p.ExtKeyUsage, oid.Equal) {
			c.report("is there twice", "extended_key_usage", i)
		}
		c.p.ExtKeyUsage = append(c.p.ExtKeyUsage, oid)
	}
	if c.config.CA == nil && slices.ContainsFunc(c.p.ExtKeyUsage, TimeStamping.Equal) {
		c.timeStamping()
	}
	if len(c.p.ExtKeyUsage) == 0 && c.config.CA == nil {
		c.report("is required: without it a certificate is good for everything", "extended_key_usage")
	}
	if c.config.CA == nil && c.p.KeyUsage&(KeyCertSign|CRLSign) != 0 {
		c.report("key_cert_sign and crl_sign are for a CA: add a ca section or remove them", "key_usage")
	}
	if c.config.CA != nil && c.p.KeyUsage&KeyCertSign == 0 {
		c.report("a CA needs key_cert_sign", "key_usage") // RFC 5280, Section 4.2.1.9
	}
}

// timeStamping refuses other usages for the key of a time-stamping authority: it must have no other purpose, and
// verifiers insist (RFC 3161, Section 2.3).
func (c *compiler) timeStamping() {
	if len(c.p.ExtKeyUsage) > 1 {
		c.report("time_stamping stands alone: make a profile of its own for the rest", "extended_key_usage")
	}
	if c.p.KeyUsage&^(DigitalSignature|ContentCommitment) != 0 {
		c.report("a time-stamping authority has digital_signature and content_commitment only", "key_usage")
	}
}

func (c *compiler) ca() {
	if c.config.CA == nil {
		return
	}
	ca := &CA{PathLength: -1, Usages: c.p.ExtKeyUsage, Policies: Policies{Only: c.p.Policies}}
	if length := c.config.CA.PathLength; length != nil {
		if *length < 0 || *length > 16 {
			c.report("want 0 to 16", "ca", "path_length")
		}
		ca.PathLength = *length
	}
	ca.Permitted = c.subtrees(c.config.CA.Permitted, "permitted")
	ca.Excluded = c.subtrees(c.config.CA.Excluded, "excluded")
	c.p.CA = ca
}

func (c *compiler) subtrees(config *SubtreesConfig, side string) Subtrees {
	if config == nil {
		return Subtrees{}
	}
	s, at, err := ParseSubtrees(*config)
	if err != nil {
		c.report(err.Error(), append([]any{"ca", side}, at...)...)
	}
	return s
}

// ParseSubtrees validates one side of name constraints. With an error, at leads to the entry at fault: its field and
// index.
func ParseSubtrees(config SubtreesConfig) (s Subtrees, at []any, err error) {
	host := func(text string) error {
		name, err := pki.NewIdentifier(pki.DNS, strings.TrimPrefix(text, "."))
		if err == nil && strings.HasPrefix(name.Value, "*") { // a constraint has no wildcards
			err = errors.New("it has an asterisk")
		}
		return err
	}
	for i, text := range config.DNS {
		// RFC 5280, Section 4.2.1.10 defines a leading dot for email and URIs only. For DNS, crypto/x509, OpenSSL,
		// GnuTLS and handshake/verify give it the same meaning: every name below, and not the domain itself.
		if err := host(text); err != nil {
			return s, []any{"dns", i}, fmt.Errorf("%.64q: want a domain, or .domain for what is below it", text)
		}
	}
	for i, text := range config.IP {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Masked() != prefix {
			return s, []any{"ip", i}, fmt.Errorf("%.64q: want a prefix such as 10.0.0.0/8", text)
		}
		s.IP = append(s.IP, prefix)
	}
	for i, text := range config.Email {
		if strings.Contains(text, "@") {
			_, err = pki.NewIdentifier(pki.Email, text)
		} else {
			err = host(text)
		}
		if err != nil {
			return s, []any{"email", i}, fmt.Errorf("%.64q: want a mailbox, a host or .domain", text)
		}
	}
	for i, text := range config.URI {
		if err := host(text); err != nil {
			return s, []any{"uri", i}, fmt.Errorf("%.64q: want a host or .domain", text)
		}
	}
	s.DNS, s.Email, s.URI = lower(config.DNS), config.Email, lower(config.URI)
	return s, nil, nil
}

func lower(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = strings.ToLower(text)
	}
	return out
}

func (c *compiler) status() {
	s := c.config.Status
	list := s.CRL
	if list == "" && !s.NoRevAvail {
		list = "shard"
		if c.config.CA != nil {
			list = "complete"
		}
	}
	choose(c, &c.p.Status.CRL, list, map[string]CRLPointer{"": CRLNone, "none": CRLNone, "shard": CRLShard, "complete": CRLComplete}, "status", "crl")
	choose(c, &c.p.Status.OCSP, s.OCSP, map[string]bool{"": !s.NoRevAvail, "yes": true, "no": false}, "status", "ocsp")
	choose(c, &c.p.Status.IssuerURL, s.IssuerURL, map[string]bool{"": true, "yes": true, "no": false}, "status", "issuer_url")
	c.p.Status.NoRevAvail, c.p.Status.MustStaple, c.p.Status.NoCheck = s.NoRevAvail, s.MustStaple, s.NoCheck
	if c.config.CA != nil && c.p.Status.CRL == CRLShard {
		c.report("the shards hold end entities only: a CA has the complete list", "status", "crl")
	}
	if s.NoRevAvail && (c.p.Status.CRL != CRLNone || c.p.Status.OCSP) {
		// RFC 9608, Section 3: a certificate with noRevAvail must not point at CRLs or OCSP.
		c.report("with no_rev_avail, crl must be none and ocsp no", "status", "no_rev_avail")
	}
	if s.NoRevAvail && c.config.CA != nil {
		c.report("a CA must be revocable (RFC 9608, Section 4)", "status", "no_rev_avail")
	}
	if s.MustStaple && !c.p.Status.OCSP {
		c.report("needs ocsp: there would be nothing to staple", "status", "must_staple")
	}
	if s.NoCheck && !slices.ContainsFunc(c.p.ExtKeyUsage, OCSPSigning.Equal) {
		c.report("is only for OCSP responders", "status", "no_check")
	}
}

// reserved are the extensions that Signet writes itself, and those that would change what the certificate is trusted
// for.
var reserved = []asn1.ObjectIdentifier{
	{2, 5, 29, 14}, {2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 18}, {2, 5, 29, 19}, {2, 5, 29, 30}, {2, 5, 29, 31}, {2, 5, 29, 32},
	{2, 5, 29, 33}, {2, 5, 29, 35}, {2, 5, 29, 36}, {2, 5, 29, 37}, {2, 5, 29, 46}, {2, 5, 29, 54}, {2, 5, 29, 56},
	{1, 3, 6, 1, 5, 5, 7, 1, 1}, {1, 3, 6, 1, 5, 5, 7, 1, 11}, {1, 3, 6, 1, 5, 5, 7, 1, 24}, {1, 3, 6, 1, 5, 5, 7, 48, 1, 5},
	{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, {1, 3, 6, 1, 4, 1, 11129, 2, 4, 3},
}

func (c *compiler) objects() {
	for i, text := range c.config.Policies {
		oid, err := parseOID(text)
		if err != nil {
			c.report(err.Error(), "policies", i)
		}
		c.p.Policies = append(c.p.Policies, oid)
	}
	for i, text := range c.config.CSRExtensions {
		oid, err := parseOID(text)
		if err != nil {
			c.report(err.Error(), "csr_extensions", i)
		} else if slices.ContainsFunc(reserved, oid.Equal) {
			c.report("Signet writes this extension itself: it cannot be copied from a request", "csr_extensions", i)
		}
		c.p.CSRExtensions = append(c.p.CSRExtensions, oid)
	}
}

func (c *compiler) access() {
	c.p.Accounts = c.config.Access.Accounts
	if len(c.config.Access.Roles) == 0 {
		c.p.Roles = []auth.Role{auth.RoleAdmin, auth.RoleRequester}
		if c.config.CA != nil {
			c.p.Roles = []auth.Role{auth.RoleAdmin}
		}
	}
	for i, text := range c.config.Access.Roles {
		role, err := auth.ParseRole(text)
		if err != nil || role != auth.RoleAdmin && role != auth.RoleRequester {
			c.report("want admin or requester", "access", "roles", i)
		}
		c.p.Roles = append(c.p.Roles, role)
	}
	choose(c, &c.p.Approval, c.config.Approval, map[string]bool{"": false, "none": false, "required": true}, "approval")
}

func (c *compiler) lint() {
	c.p.LintSources = c.config.Lint.Sources
	for i, source := range c.config.Lint.Sources {
		if err := lint.CheckSource(source); err != nil {
			c.report(err.Error(), "lint", "sources", i)
		}
	}
	c.p.Waivers = make(map[string]string, len(c.config.Lint.Waive))
	for i, waiver := range c.config.Lint.Waive {
		if waiver.Lint == "" {
			c.report("names no lint", "lint", "waive", i)
		} else if err := lint.CheckWaivable(waiver.Lint); err != nil {
			c.report(err.Error(), "lint", "waive", i, "lint")
		}
		if strings.TrimSpace(waiver.Reason) == "" {
			c.report("is required: say why this rule may fail", "lint", "waive", i, "reason")
		}
		c.p.Waivers[waiver.Lint] = waiver.Reason
	}
}

func choose[T any](c *compiler, dst *T, text string, values map[string]T, path ...any) {
	value, ok := values[text]
	if !ok {
		delete(values, "")
		c.report("want one of "+sortedKeys(values), path...)
	}
	*dst = value
}

func sortedKeys[T any](m map[string]T) string {
	var words []string
	for word := range m {
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || (len(part) > 1 && part[0] == '0') {
			return nil, fmt.Errorf("%.64q is not a dotted OID", text)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || (oid[0] < 2 && oid[1] > 39) {
		return nil, fmt.Errorf("%.64q is not a dotted OID", text)
	}
	return oid, nil
}
