package handshaketest

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// CRL describes a list. The zero CRL is a complete, honest, current list, valid for a day.
type CRL struct {
	Number     int64         // 0: one more than the last
	At         time.Time     // zero: now
	Age        time.Duration // thisUpdate lies that far before At
	Life       time.Duration // from thisUpdate to nextUpdate; 0: a day
	Only       []Revocation  // in place of the authority's revocations; nil: these
	Extensions []pkix.Extension
	Signer     *Cert // in place of the authority
}

// Extensions of lists that tests need.
var (
	UnknownCritical = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: asn1Null}
	oidIDP          = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidPoints       = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidFreshest     = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// ScopeURL is a critical issuing distribution point with one URL (RFC 5280, Section 5.2.5).
func ScopeURL(location string) pkix.Extension {
	name := tagged(0x86, []byte(location))
	return pkix.Extension{Id: oidIDP, Critical: true, Value: tagged(0x30, tagged(0xa0, tagged(0xa0, name)))}
}

// ScopeCACerts is a critical issuing distribution point that covers CA certificates only.
func ScopeCACerts() pkix.Extension {
	return pkix.Extension{Id: oidIDP, Critical: true, Value: tagged(0x30, tagged(0x82, []byte{0xff}))}
}

// ScopeUserCerts is a critical issuing distribution point that covers everything but CA certificates.
func ScopeUserCerts() pkix.Extension {
	return pkix.Extension{Id: oidIDP, Critical: true, Value: tagged(0x30, tagged(0x81, []byte{0xff}))}
}

// mirrorSuffix follows the name of an authority in the paths of the second place and the second responder.
const mirrorSuffix = "-mirror"

// points is one distribution point that names several places for a list (RFC 5280, Section 4.2.1.13).
func points(locations ...string) pkix.Extension {
	var names []byte
	for _, location := range locations {
		names = append(names, tagged(0x86, []byte(location))...)
	}
	return pkix.Extension{Id: oidPoints, Value: tagged(0x30, tagged(0x30, tagged(0xa0, tagged(0xa0, names))))}
}

// DeltaOf is a critical delta indicator (RFC 5280, Section 5.2.4).
func DeltaOf(base int64) pkix.Extension {
	value, err := asn1.Marshal(big.NewInt(base))
	if err != nil {
		panic(err) // an integer always encodes
	}
	return pkix.Extension{Id: oidDelta, Critical: true, Value: value}
}

// Freshest points to a delta (RFC 5280, Section 5.2.6).
func Freshest(location string) pkix.Extension {
	name := tagged(0x86, []byte(location))
	return pkix.Extension{Id: oidFreshest, Value: tagged(0x30, tagged(0x30, tagged(0xa0, tagged(0xa0, name))))}
}

// tagged encodes one element of at most 65535 octets.
func tagged(tag byte, content []byte) []byte {
	switch n := len(content); {
	case n < 128:
		return append([]byte{tag, byte(n)}, content...)
	case n < 256:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

// CRL makes a list of this authority.
func (c *Cert) CRL(spec CRL) []byte {
	c.pki.tb.Helper()
	c.mu.Lock()
	if spec.Number == 0 {
		c.number++
		spec.Number = c.number
	} else {
		c.number = max(c.number, spec.Number)
	}
	entries := spec.Only
	if entries == nil {
		for _, r := range c.revoked {
			entries = append(entries, r)
		}
	}
	c.mu.Unlock()
	if spec.Life == 0 {
		spec.Life = 24 * time.Hour
	}
	slices.SortFunc(entries, func(a, b Revocation) int { return a.Serial.Cmp(b.Serial) })
	this := c.pki.at(spec.At).Add(-spec.Age).Truncate(time.Second)
	list := &x509.RevocationList{Number: big.NewInt(spec.Number), ThisUpdate: this, NextUpdate: this.Add(spec.Life), ExtraExtensions: spec.Extensions}
	for _, r := range entries {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: r.At, ReasonCode: r.Reason})
	}
	signer := c
	if spec.Signer != nil {
		signer = spec.Signer
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, signer.Certificate, signer.Key)
	c.pki.check(err)
	return der
}

// OCSP describes a response. The zero OCSP has the authority's own status, is current, valid for an hour, and signed by it.
type OCSP struct {
	About  *Cert         // in place of the certificate
	Status int           // forced with Force: golang.org/x/crypto/ocsp's constants
	Force  bool          // use Status in place of the authority's own
	At     time.Time     // zero: now
	Age    time.Duration // thisUpdate lies that far before At
	Life   time.Duration // from thisUpdate to nextUpdate; 0: an hour
	Signer *Cert         // in place of the authority; its certificate is sent along
	Hash   crypto.Hash   // of the certificate's identifier; 0: SHA-256
}

// OCSP makes a response about c.
func (c *Cert) OCSP(spec OCSP) []byte {
	c.pki.tb.Helper()
	about := c
	if spec.About != nil {
		about = spec.About
	}
	if spec.Life == 0 {
		spec.Life = time.Hour
	}
	this := c.pki.at(spec.At).Add(-spec.Age).Truncate(time.Second)
	template := ocsp.Response{SerialNumber: about.SerialNumber, ThisUpdate: this, NextUpdate: this.Add(spec.Life), Status: ocsp.Good, IssuerHash: cmp.Or(spec.Hash, crypto.SHA256)}
	about.Issuer.mu.Lock()
	known, revoked := about.Issuer.revoked[about.SerialNumber.String()]
	about.Issuer.mu.Unlock()
	if revoked {
		template.Status, template.RevokedAt, template.RevocationReason = ocsp.Revoked, known.At, known.Reason
	}
	if spec.Force {
		template.Status, template.RevokedAt = spec.Status, this
	}
	responder := about.Issuer
	if spec.Signer != nil {
		responder = spec.Signer
		template.Certificate = responder.Certificate
	}
	der, err := ocsp.CreateResponse(about.Issuer.Certificate, responder.Certificate, template, responder.Key)
	c.pki.check(err)
	return der
}

// at returns the given time, or now if it is zero.
func (p *PKI) at(given time.Time) time.Time {
	if given.IsZero() {
		return p.Now()
	}
	return given
}

// Replace has a path of the status service answered by another handler; nil restores the honest one.
func (p *PKI) Replace(path string, handler http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if handler == nil {
		delete(p.handlers, path)
		return
	}
	p.handlers[path] = handler
}

// Hits returns the number of requests for a path.
func (p *PKI) Hits(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[path]
}

// Off switches the whole status service off: every request is answered 503.
func (p *PKI) Off() {
	for name := range p.certs {
		for _, path := range []string{"/" + name + ".crl", "/" + name + mirrorSuffix + ".crl", "/" + name + ".ocsp", "/" + name + mirrorSuffix + ".ocsp"} {
			p.Replace(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "off", http.StatusServiceUnavailable) }))
		}
	}
}

// On undoes every Replace.
func (p *PKI) On() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.handlers)
}

// Bytes always answers with the same octets.
func Bytes(body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) }) // an error means that the client went away
}

// listing answers each request with a list made for it.
func (c *Cert) listing(spec CRL) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(c.CRL(spec)) })
}

// Endless answers without end.
func Endless() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte{0x30}, 1<<16)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
}

// Slow answers one octet and then nothing, until the client gives up.
func Slow() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte{0x30})
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
}

// serveStatus answers with honest lists and responses, except on replaced paths.
func (p *PKI) serveStatus(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if i := strings.Index(path, ".ocsp/"); i > 0 {
		path = path[:i+len(".ocsp")]
	}
	p.mu.Lock()
	handler := p.handlers[path]
	p.hits[path]++
	p.mu.Unlock()
	if handler != nil {
		handler.ServeHTTP(w, r)
		return
	}
	p.serveHonestly(w, r, path)
}

// Before has run called before each request for a path, which then is answered honestly.
func (p *PKI) Before(path string, run func()) {
	p.Replace(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		run()
		p.serveHonestly(w, r, path)
	}))
}

func (p *PKI) serveHonestly(w http.ResponseWriter, r *http.Request, path string) {
	name, kind, _ := strings.Cut(strings.TrimPrefix(path, "/"), ".")
	authority := p.certs[strings.TrimSuffix(name, mirrorSuffix)]
	switch {
	case authority == nil:
		http.NotFound(w, r)
	case kind == "crl":
		w.Header().Set("Content-Type", "application/pkix-crl")
		_, _ = w.Write(authority.CRL(CRL{}))
	case kind == "ocsp":
		p.serveOCSP(w, r, authority)
	default:
		http.NotFound(w, r)
	}
}

func (p *PKI) serveOCSP(w http.ResponseWriter, r *http.Request, authority *Cert) {
	w.Header().Set("Content-Type", "application/ocsp-response")
	der, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if r.Method == http.MethodGet {
		_, encoded, _ := strings.Cut(r.URL.EscapedPath(), ".ocsp/")
		if encoded, err = url.PathUnescape(encoded); err == nil {
			der, err = base64.StdEncoding.DecodeString(encoded)
		}
	}
	if err != nil {
		_, _ = w.Write(ocsp.MalformedRequestErrorResponse)
		return
	}
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		_, _ = w.Write(ocsp.MalformedRequestErrorResponse)
		return
	}
	for _, c := range p.certs {
		if c.Issuer == authority && c.SerialNumber.Cmp(request.SerialNumber) == 0 {
			_, _ = w.Write(c.OCSP(OCSP{Hash: request.HashAlgorithm}))
			return
		}
	}
	_, _ = w.Write(ocsp.UnauthorizedErrorResponse)
}

// Extensions is a list of extensions.
func Extensions(list ...pkix.Extension) []pkix.Extension { return list }
