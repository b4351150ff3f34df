package profile

// Config is a profile as an operator writes it: one YAML file. A field that is left out has the value that its comment
// names. Leaving a field out never permits anything.
type Config struct {
	Name        string `yaml:"name"`        // required; requests give this name
	Description string `yaml:"description"` // for people
	Issuer      string `yaml:"issuer"`      // label of the issuer; empty: the request names one, or there is only one
	Public      bool   `yaml:"public"`      // follows the rules of public CAs on revocation (reasons, no hold)

	Lifetime    string `yaml:"lifetime"`     // required; "90d", "12h", "1y" (a year is 365 days)
	MaxLifetime string `yaml:"max_lifetime"` // the longest that a request may ask for; empty: Lifetime
	Backdate    string `yaml:"backdate"`     // how far notBefore lies in the past, for slow clocks; empty: not at all

	Subject          SubjectConfig `yaml:"subject"`
	Names            NamesConfig   `yaml:"names"`
	Keys             KeysConfig    `yaml:"keys"`
	KeyUsage         []string      `yaml:"key_usage"`          // required
	ExtendedKeyUsage []string      `yaml:"extended_key_usage"` // names or dotted OIDs; empty only for a CA; time_stamping stands alone
	CA               *CAConfig     `yaml:"ca"`                 // if present, certificates are CAs
	Status           StatusConfig  `yaml:"status"`
	Policies         []string      `yaml:"policies"`       // certificate policy OIDs
	CSRExtensions    []string      `yaml:"csr_extensions"` // OIDs of extensions copied unchanged from the CSR; none that Signet writes itself
	Access           AccessConfig  `yaml:"access"`
	Approval         string        `yaml:"approval"` // "none" (also when empty) or "required"
	Retain           string        `yaml:"retain"`   // how long certificates are kept after expiry
	Lint             LintConfig    `yaml:"lint"`
}

// SubjectConfig describes the distinguished name.
type SubjectConfig struct {
	// CommonName is "none" (also when empty), "first-name" (the first subject alternative name), "optional" or
	// "required" (the request gives it).
	CommonName string              `yaml:"common_name"`
	Take       []string            `yaml:"take"` // attributes taken from the request: organization, country, ...
	Set        map[string][]string `yaml:"set"`  // attributes always set, whatever the request says
}

// NamesConfig says which subject alternative names are allowed. A type that is left out is not allowed at all.
type NamesConfig struct {
	Min int `yaml:"min"` // least number of names
	Max int `yaml:"max"` // greatest number of names; zero: 100

	DNS   *DNSConfig  `yaml:"dns"`
	IP    *ListConfig `yaml:"ip"`    // addresses and prefixes, or "*"
	Email *ListConfig `yaml:"email"` // "who@host", "@host", "@.below.host", or "*"
	URI   *ListConfig `yaml:"uri"`   // "scheme://host/path" exactly, or a prefix that ends in "/*", or "scheme://*"
}

// DNSConfig restricts DNS names: "host" is one name, ".domain" every name below it, "*" every name.
type DNSConfig struct {
	Allow     []string `yaml:"allow"`
	Deny      []string `yaml:"deny"`
	Wildcards string   `yaml:"wildcards"` // "deny" (also when empty) or "allow"
}

// ListConfig allows and denies patterns. Deny wins.
type ListConfig struct {
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

// KeysConfig says which keys are certified.
type KeysConfig struct {
	Algorithms []string `yaml:"algorithms"` // empty: all that this build knows
	Reuse      string   `yaml:"reuse"`      // for a key that was certified before: "allow" (also when empty), "account" or "deny"
}

// CAConfig makes the certificates of a profile CA certificates.
type CAConfig struct {
	PathLength *int            `yaml:"path_length"` // left out: no limit
	Permitted  *SubtreesConfig `yaml:"permitted"`
	Excluded   *SubtreesConfig `yaml:"excluded"`
}

// SubtreesConfig is one side of name constraints (RFC 5280, Section 4.2.1.10).
type SubtreesConfig struct {
	DNS   []string `yaml:"dns"`   // domain (with everything below it) or .domain (without the domain itself)
	IP    []string `yaml:"ip"`    // prefixes
	Email []string `yaml:"email"` // mailbox, host, or .domain
	URI   []string `yaml:"uri"`   // host, or .domain
}

// StatusConfig says where a certificate tells verifiers to ask for its status.
type StatusConfig struct {
	CRL        string `yaml:"crl"`          // "shard" (also when empty; "complete" for CAs), "complete" or "none"
	OCSP       string `yaml:"ocsp"`         // "yes" (also when empty) or "no"
	NoRevAvail bool   `yaml:"no_rev_avail"` // RFC 9608: there is no revocation information; implies crl none and ocsp no
	MustStaple bool   `yaml:"must_staple"`  // RFC 7633
	IssuerURL  string `yaml:"issuer_url"`   // AIA caIssuers: "yes" (also when empty) or "no"
	NoCheck    bool   `yaml:"no_check"`     // id-pkix-ocsp-nocheck, RFC 6960, Section 4.2.2.2.1; only with ocsp_signing
}

// AccessConfig says who may use the profile. Roles and accounts must both match.
type AccessConfig struct {
	Roles    []string `yaml:"roles"`    // empty: admin and requester
	Accounts []string `yaml:"accounts"` // empty: all
}

// LintConfig says which rules a certificate must pass before it is signed.
type LintConfig struct {
	Sources []string       `yaml:"sources"` // names of zlint's sources; empty: the RFCs
	Waive   []WaiverConfig `yaml:"waive"`
}

// WaiverConfig lets a certificate fail one rule. The reason is required.
type WaiverConfig struct {
	Lint   string `yaml:"lint"`
	Reason string `yaml:"reason"`
}
