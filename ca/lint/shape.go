//go:build !windows

package lint

import (
	_ "embed"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// shapeText lists the lints whose outcome depends on the shape of a certificate alone. docs/decisions/0401 says why
// the outcome of each other lint does not. A lint that is not listed runs on every certificate.
//
//go:embed shape.txt
var shapeText string

// settled is when all lints of the table had come into force. A lint that begins or ends to apply later depends on
// dates.
var settled = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func shapeLints() map[string]bool {
	names := make(map[string]bool)
	for name := range strings.FieldsSeq(shapeText) {
		names[name] = true
	}
	return names
}

func dependsOnShapeOnly(l *lint.CertificateLint, table map[string]bool) bool {
	return table[l.Name] && !l.EffectiveDate.After(settled) && (l.IneffectiveDate.IsZero() || l.IneffectiveDate.Before(settled))
}

// maxShapes bounds the shapes that one set of rules remembers. Without it requests, which choose the number and types
// of names, could make any number of shapes.
const maxShapes = 1024

// shapes remembers the shapes that passed the lints of the table. Shapes that failed are linted again, to report why.
// It is safe for concurrent use.
type shapes struct {
	mu     sync.RWMutex
	passed map[string]*passedShape
}

// passedShape is a shape that passed the lints of the table.
type passedShape struct {
	byValue []*lint.CertificateLint // Rules.byValue except lints for extensions that the shape does not have
	pattern *pattern                // nil: zcrypto parses every certificate of the shape
	seen    atomic.Uint64
	differs atomic.Bool // the pattern once gave another result than zcrypto, and is no longer used
}

func (s *shapes) find(shape []byte) *passedShape {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.passed[string(shape)]
}

func (s *shapes) add(shape []byte, passed *passedShape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed == nil || len(s.passed) >= maxShapes {
		s.passed = make(map[string]*passedShape)
	}
	s.passed[string(shape)] = passed
}

// run runs the lints that read values, and those of the table unless a certificate of this shape has passed them.
func (r *Rules) run(der, tbs, algorithm []byte, selfSigned bool) error {
	shape, hasShape := shapeOf(tbs, algorithm, selfSigned)
	var known *passedShape
	if hasShape {
		known = r.shapes.find(shape)
	}
	certificate, err := known.parse(der, tbs)
	if err != nil {
		return unreadable(err)
	}
	var like *pattern
	if hasShape && known == nil {
		like = newPattern(certificate)
	}
	certificate.SelfSigned = selfSigned
	byValue := r.byValue
	if known != nil {
		byValue = known.byValue
	}
	findings := r.execute(certificate, byValue)
	if known == nil {
		broken := r.execute(certificate, r.byShape)
		if hasShape && len(broken) == 0 {
			r.shapes.add(shape, &passedShape{byValue: r.applicable(certificate), pattern: like})
		}
		findings = append(findings, broken...)
	}
	if len(findings) > 0 {
		return &Failure{findings}
	}
	return nil
}

// asksFor maps lints that read values to the only extension that they apply to: zlint's CheckApplies asks for nothing
// else.
var asksFor = map[string]string{
	"e_ext_ian_dns_not_ia5_string":         issuerAltName,
	"e_ext_ian_empty_name":                 issuerAltName,
	"e_ext_ian_rfc822_format_invalid":      issuerAltName,
	"e_ext_ian_space_dns_name":             issuerAltName,
	"e_ext_ian_uri_format_invalid":         issuerAltName,
	"e_ext_ian_uri_host_not_fqdn_or_ip":    issuerAltName,
	"e_ext_ian_uri_not_ia5":                issuerAltName,
	"e_ext_ian_uri_relative":               issuerAltName,
	"e_name_constraint_maximum_not_absent": nameConstraints,
	"e_name_constraint_minimum_non_zero":   nameConstraints,
	"e_name_constraint_not_fqdn":           nameConstraints,
}

const issuerAltName, nameConstraints = "2.5.29.18", "2.5.29.30"

// applicable returns the lints of byValue that can apply to certificates of the same shape, which have the same
// extensions.
func (r *Rules) applicable(certificate *x509.Certificate) []*lint.CertificateLint {
	return slices.DeleteFunc(slices.Clone(r.byValue), func(l *lint.CertificateLint) bool {
		extension, asks := asksFor[l.Name]
		_, has := certificate.ExtensionsMap[extension]
		return asks && !has
	})
}

// compareEvery is after how many certificates the parse by pattern is compared with zcrypto's again.
const compareEvery = 256

// parse parses a certificate, by pattern if there is one that never differed from zcrypto, else by zcrypto.
func (s *passedShape) parse(der, tbs []byte) (*x509.Certificate, error) {
	if s == nil || s.pattern == nil || s.differs.Load() {
		return x509.ParseCertificate(der)
	}
	derived, ok := s.pattern.parse(der, tbs)
	if ok && s.seen.Add(1)%compareEvery != 1 {
		return derived, nil
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		s.differs.CompareAndSwap(false, ok)
		return nil, err
	}
	forgetFingerprints(parsed)
	if ok && !reflect.DeepEqual(parsed, derived) {
		s.differs.Store(true)
	}
	return parsed, nil
}

func (r *Rules) execute(certificate *x509.Certificate, lints []*lint.CertificateLint) (findings []Finding) {
	for _, l := range lints {
		if result := l.Execute(certificate, r.config); result.Status == lint.Error || result.Status == lint.Fatal {
			findings = append(findings, findingOf(l, result))
		}
	}
	return findings
}

// shapeOf returns the shape of a certificate, which is the certificate without its values. It consists of all tags,
// nested as they are; of what is empty; of the contents of object identifiers, booleans, nulls, short integers and
// short bit strings (key usage), of the issuer's name and of the signature algorithm; and of the format of times. It
// is computed from the bytes that will be signed, not from the values they encode. ok is false if they cannot be read.
func shapeOf(tbs, algorithm []byte, selfSigned bool) (shape []byte, ok bool) {
	w := shapeWriter{out: make([]byte, 0, 512)}
	if selfSigned {
		w.out = append(w.out, 1)
	}
	w.out = append(w.out, algorithm...)
	input := cryptobyte.String(tbs)
	var body, issuer cryptobyte.String
	if !input.ReadASN1(&body, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	rest := body
	// version, serialNumber and signature precede the issuer.
	if !rest.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !rest.SkipASN1(asn1.INTEGER) || !rest.SkipASN1(asn1.SEQUENCE) ||
		!rest.ReadASN1Element(&issuer, asn1.SEQUENCE) {
		return nil, false
	}
	w.out = append(w.out, issuer...)
	return w.finish(body)
}

type shapeWriter struct{ out []byte }

func (w *shapeWriter) finish(body cryptobyte.String) ([]byte, bool) {
	ok := w.walk(body, 0)
	return w.out, ok
}

// maxDepth bounds nesting; certificates need about ten levels.
const maxDepth = 24

func (w *shapeWriter) walk(input cryptobyte.String, depth int) bool {
	for !input.Empty() {
		var content cryptobyte.String
		var tag asn1.Tag
		if depth > maxDepth || !input.ReadAnyASN1(&content, &tag) {
			return false
		}
		w.out = append(w.out, byte(tag))
		switch {
		case len(content) == 0:
			w.out = append(w.out, 0)
		case tag&0x20 != 0: // constructed
			w.out = append(w.out, '(')
			if !w.walk(content, depth+1) {
				return false
			}
			w.out = append(w.out, ')')
		case tag == asn1.OCTET_STRING && w.nested(content, depth):
		case tag == asn1.UTCTime || tag == asn1.GeneralizedTime:
			w.out = append(w.out, byte(len(content)), content[len(content)-1]) // seconds, fractions, zone
		case w.keeps(tag, content):
			w.out = append(append(w.out, byte(len(content))), content...)
		default:
			w.out = append(w.out, 1)
		}
	}
	return true
}

// nested writes the structure inside an OCTET STRING, such as the value of an extension. It returns false if there is
// none.
func (w *shapeWriter) nested(content cryptobyte.String, depth int) bool {
	mark := len(w.out)
	w.out = append(w.out, '[')
	if !w.walk(content, depth+1) {
		w.out = w.out[:mark]
		return false
	}
	w.out = append(w.out, ']')
	return true
}

func (w *shapeWriter) keeps(tag asn1.Tag, content []byte) bool {
	switch tag {
	case asn1.OBJECT_IDENTIFIER:
		return len(content) < 128
	case asn1.BOOLEAN:
		return len(content) == 1
	case asn1.INTEGER:
		return len(content) <= 2
	case asn1.BIT_STRING:
		return len(content) <= 3
	}
	return false
}
