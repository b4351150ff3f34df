package verify

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/crl"
)

// Kind is the question that a Case asks.
type Kind string

// The questions.
const (
	KindChain        Kind = "verify"      // accept or reject a chain
	KindCRL          Kind = "crl-status"  // what CRLs say of a certificate, its issuers taken as given
	KindOCSP         Kind = "ocsp-status" // what OCSP responses say of a certificate, its issuers taken as given
	KindOCSPResponse Kind = "ocsp-verify" // whether the signer of a response was entitled to sign it
)

// undecided returns the verdict on a question that was not understood.
func (k Kind) undecided() Verdict {
	if k == KindCRL || k == KindOCSP {
		return Unknown
	}
	return Reject
}

// Case is one question, in the form of one line of a batch. Fields that a kind does not use are ignored.
type Case struct {
	ID   json.RawMessage `json:"id,omitempty"` // repeated in the result
	Kind Kind            `json:"kind"`

	Roots         []DER `json:"roots,omitempty"`
	Intermediates []DER `json:"intermediates,omitempty"` // untrusted issuers, CRL issuers and OCSP responders
	Untrusted     []DER `json:"untrusted,omitempty"`     // the same, as ocsp-verify calls it
	Issuers       []DER `json:"issuers,omitempty"`       // taken as given; only for the questions about status
	Leaf          DER   `json:"leaf,omitempty"`
	CRLs          []DER `json:"crls,omitempty"`
	OCSPs         []DER `json:"ocsps,omitempty"`

	Time       string     `json:"time"` // RFC 3339; the only clock
	EKU        string     `json:"eku,omitempty"`
	DNS        *string    `json:"dns,omitempty"`
	IP         *string    `json:"ip,omitempty"`
	Revocation Revocation `json:"revocation,omitempty"`

	Policies       []string `json:"policies,omitempty"`
	ExplicitPolicy bool     `json:"explicit_policy,omitempty"`
	InhibitMapping bool     `json:"inhibit_mapping,omitempty"`
	InhibitAny     bool     `json:"inhibit_any,omitempty"`

	MaxAge        *string `json:"max_age,omitempty"`        // a Go duration: how old thisUpdate may be
	CRLExpiration string  `json:"crl_expiration,omitempty"` // "enforce" or "ignore"
	Nonce         *string `json:"nonce,omitempty"`          // hexadecimal; must be in the OCSP response
	PartialChain  bool    `json:"partial_chain,omitempty"`  // a root need not be its own issuer
}

// Revocation is how far and how strictly the status of a chain is checked. Empty means off.
type Revocation string

// The levels of checking: the leaf alone, or every certificate below the root. Soft tolerates a certificate without
// evidence. It does not tolerate bad evidence.
const (
	RevocationOff       Revocation = "off"
	RevocationSoftLeaf  Revocation = "soft-leaf"
	RevocationSoftChain Revocation = "soft-chain"
	RevocationHardLeaf  Revocation = "hard-leaf"
	RevocationHardChain Revocation = "hard-chain"
)

// DER is foreign octets. In JSON it is DER in base64, or PEM. Any other text is kept as it stands, so that it fails as
// something that does not parse.
type DER []byte

// UnmarshalJSON accepts every string. The error is about JSON that is not a string.
func (d *DER) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == nil {
		*d = nil
		return nil
	}
	*d = ReadDER([]byte(*s))
	return nil
}

// ReadDER decodes the first PEM block, or base64, and returns anything else unchanged.
func ReadDER(data []byte) DER {
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes
	}
	if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data))); err == nil {
		return decoded
	}
	return data
}

// Class says what stood in the way of a better verdict. It is empty if nothing did.
type Class string

// The classes.
const (
	ClassNone          Class = ""
	ClassParse         Class = "parse"          // something does not parse
	ClassPath          Class = "path"           // no path to a root, or only paths that break the rules
	ClassName          Class = "name"           // the certificate is for another name
	ClassExpired       Class = "expired"        // a certificate is outside its validity
	ClassPolicy        Class = "policy"         // certificate policies do not allow it
	ClassRevoked       Class = "revoked"        // revoked
	ClassNoInformation Class = "no-information" // no evidence at hand about the certificate
	ClassStale         Class = "stale"          // the evidence about the certificate is of another time
	ClassBadSignature  Class = "bad-signature"  // the signature of a CRL or response does not verify
	ClassUnsupported   Class = "unsupported"    // an algorithm, a kind of key, a critical element or the question is not supported
)

// Verdict is the answer in one word.
type Verdict string

// The verdicts: accept and reject for a chain or a response, the others for the status of a certificate.
const (
	Accept  Verdict = "accept"
	Reject  Verdict = "reject"
	Good    Verdict = "good"
	Revoked Verdict = "revoked"
	Unknown Verdict = "unknown"
)

// Result is the answer to a Case.
type Result struct {
	ID      json.RawMessage     `json:"id,omitempty"`
	Result  Verdict             `json:"result"`
	Class   Class               `json:"error_class,omitempty"`
	Detail  string              `json:"detail,omitempty"`
	PerCert []CertificateStatus `json:"per_cert"` // leaf first; only certificates whose status was asked for
}

// CertificateStatus is what the evidence shows about one certificate.
type CertificateStatus struct {
	Serial string `json:"serial"` // lower-case hexadecimal, whole octets without leading zeros
	Status string `json:"status"` // good, revoked, unknown or exempt
	Source string `json:"source,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Judge answers one Case. It never panics on foreign bytes and never fails: every fault is part of the Result.
func Judge(c *Case) Result {
	r := judge(c)
	r.ID = c.ID
	if r.PerCert == nil {
		r.PerCert = []CertificateStatus{}
	}
	return r
}

// Check returns an error about the question itself: a time, a bound or a name that cannot be read. Judge answers such a
// case with `unsupported`; a user at a terminal is better served by this error.
func (c *Case) Check() error {
	_, badCondition := c.conditions()
	_, badDepth := c.Revocation.depth()
	_, badNonce := c.nonce()
	if bad := cmp.Or(badCondition, badDepth, badNonce, c.options(&x509.VerifyOptions{})); bad != nil {
		return errors.New(bad.detail)
	}
	return nil
}

func judge(c *Case) Result {
	switch c.Kind {
	case KindChain:
		return judgeChain(c)
	case KindCRL:
		return judgeCRLs(c)
	case KindOCSP:
		return judgeOCSPs(c)
	case KindOCSPResponse:
		return judgeResponse(c)
	}
	return Result{Result: Reject, Class: ClassUnsupported, Detail: fmt.Sprintf("kind %.40q is not known", c.Kind)}
}

// fault is why something is not accepted: a class for programs and a sentence for people.
type fault struct {
	class  Class
	detail string
}

func (f *fault) Error() string { return string(f.class) + ": " + f.detail }

func faultf(class Class, format string, args ...any) *fault {
	return &fault{class, fmt.Sprintf(format, args...)}
}

func (f *fault) result(v Verdict) Result { return Result{Result: v, Class: f.class, Detail: f.detail} }

// conditions are the fields of a Case that every kind reads.
type conditions struct {
	at     time.Time
	maxAge time.Duration
	ignore bool // lists count past their nextUpdate
}

func (c *Case) conditions() (conditions, *fault) {
	var k conditions
	var err error
	if k.at, err = time.Parse(time.RFC3339, c.Time); err != nil {
		return k, faultf(ClassUnsupported, "time %.40q: want one of RFC 3339, as in 2026-09-01T00:00:00Z", c.Time)
	}
	// The times in certificates are whole seconds, inclusive (RFC 5280, Section 4.1.2.5).
	k.at = k.at.Truncate(time.Second)
	if c.MaxAge != nil && *c.MaxAge != "" {
		if k.maxAge, err = time.ParseDuration(*c.MaxAge); err != nil || k.maxAge < 0 {
			return k, faultf(ClassUnsupported, "maximum age %.40q: want a duration, as in 168h", *c.MaxAge)
		}
	}
	switch c.CRLExpiration {
	case "", "enforce":
	case "ignore":
		k.ignore = true
	default:
		return k, faultf(ClassUnsupported, "crl_expiration %.40q: want enforce or ignore", c.CRLExpiration)
	}
	return k, nil
}

// nonce returns the nonce that the response must have; nil if the case demands none.
func (c *Case) nonce() ([]byte, *fault) {
	if c.Nonce == nil {
		return nil, nil
	}
	nonce, err := hex.DecodeString(*c.Nonce)
	if err != nil || len(nonce) == 0 {
		return nil, faultf(ClassUnsupported, "nonce %.40q: want hexadecimal digits", *c.Nonce)
	}
	return nonce, nil
}

// certificates returns the certificates that parse, and the fault of the first that does not. A certificate that is not
// needed need not parse.
func certificates(ders []DER) (parsed []*x509.Certificate, bad *fault) {
	for i, der := range ders {
		cert, err := ParseCertificate(der)
		if err != nil {
			if bad == nil {
				bad = unread(fmt.Sprintf("certificate %d", i), der, err)
			}
			continue
		}
		parsed = append(parsed, cert)
	}
	return parsed, bad
}

// lists returns the CRLs that parse, and the fault of the first that does not.
func lists(ders []DER) (parsed []*crl.List, bad *fault) {
	for i, der := range ders {
		list, err := crl.Parse(der)
		if err != nil {
			if bad == nil {
				bad = faultf(ClassParse, "CRL %d does not parse: %v", i, err)
			}
			continue
		}
		parsed = append(parsed, list)
	}
	return parsed, bad
}

func distinct(lists ...[]*x509.Certificate) []*x509.Certificate {
	var all []*x509.Certificate
	for _, list := range lists {
		for _, c := range list {
			if !contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}

func sameKeyAndName(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}
