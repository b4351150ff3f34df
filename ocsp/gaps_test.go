package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/internal/testder"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestBounds: the most that is read is read, and one more is not.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	tiny := ocsp.SingleRequest{ID: ocsp.CertID{Algorithm: []byte{0x2a}, Serial: []byte{1}}} // by an unknown hash
	request := func(change func(*ocsp.Request)) []byte {
		r := &ocsp.Request{Items: []ocsp.SingleRequest{tiny}}
		change(r)
		der, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	padded := func(size int) []byte {
		less := len(request(func(r *ocsp.Request) { r.RequestorName = testder.Element(0x82, make([]byte, 5000)) })) - 5000
		return request(func(r *ocsp.Request) { r.RequestorName = testder.Element(0x82, make([]byte, size-less)) })
	}
	extensions := func(n, size int) (all []ocsp.Extension) {
		for i := range n {
			all = append(all, ocsp.Extension{ID: ocsp.OID([]byte{0x2a, byte(i)}), Value: make([]byte, size)})
		}
		return all
	}
	plain := sign(t, w.responder, w.good(t))
	many := func(n int) []byte {
		d := testder.Parse(plain, responseNames)
		return d.Replace("responses", testder.Element(0x30, bytes.Repeat(d.Find("SingleResponse"), n)))
	}
	certs := func(n int) []byte {
		d := testder.Parse(plain, responseNames)
		return d.Replace("Certificates", testder.Element(0x30, bytes.Repeat([]byte{0x30, 0}, n)))
	}
	parseRequest := func(der []byte) error { _, err := ocsp.ParseRequest(der); return err }
	parseResponse := func(der []byte) error { _, err := ocsp.ParseResponse(der); return err }
	for _, c := range []struct {
		name       string
		parse      func([]byte) error
		most, more []byte
	}{
		{"octets of a request", parseRequest, padded(ocsp.MaxRequest), padded(ocsp.MaxRequest + 1)},
		{"certificates of a request", parseRequest, request(func(r *ocsp.Request) { r.Items = slices.Repeat(r.Items, ocsp.MaxItems) }),
			testder.Parse(request(func(*ocsp.Request) {}), requestNames).Replace("requestList", testder.Element(0x30, bytes.Repeat(testder.Parse(request(func(*ocsp.Request) {}), requestNames).Find("Request"), ocsp.MaxItems+1)))},
		{"extensions", parseRequest, request(func(r *ocsp.Request) { r.Extensions = extensions(32, 1) }), request(func(r *ocsp.Request) { r.Extensions = extensions(33, 1) })},
		{"answers", parseResponse, many(ocsp.MaxItems), many(ocsp.MaxItems + 1)},
		{"certificates beside the signature", parseResponse, certs(16), certs(17)},
	} {
		if err := c.parse(c.most); err != nil {
			t.Errorf("%s: the most is refused: %v", c.name, err)
		}
		if err := c.parse(c.more); cause(err) != "malformed" {
			t.Errorf("%s: one more: %v", c.name, err)
		}
	}
	for status := range 256 {
		content := []byte{byte(status)}
		if status >= 0x80 {
			content = []byte{0, byte(status)}
		}
		_, err := ocsp.ParseResponse(testder.Element(0x30, testder.Element(0x0a, content)))
		if known := status >= 1 && status <= 6 && status != 4; known != (err == nil) {
			t.Errorf("status %d: %v", status, err)
		}
	}
	for name, ok := range map[string]bool{"\x88\x01x": true, "\x89\x01x": false, "\x0c\x01x": false, "\x82\x01x\x05\x00": false, "": false} {
		if err := parseRequest(testder.Parse(padded(6000), requestNames).Replace("requestorName", testder.Element(0xa1, []byte(name)))); (err == nil) != ok {
			t.Errorf("requestor name %x: %v", name, err)
		}
	}
}

// TestDamagedAlgorithms: the algorithm of a signature is not signed. Every damage to it is refused, but parameters that
// are absent where NULL should be.
func TestDamagedAlgorithms(t *testing.T) {
	w := newWorld(t)
	rsaKey := newKey(t, "RSA").(*rsa.PrivateKey)
	byRSA := sign(t, issue(t, w.ca, "RSA", rsaKey, delegate), w.good(t))
	_, basic := takeApart(t, byRSA)
	digest := sha256.Sum256(basic.Data.FullBytes)
	pss, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	names := testder.Names{"/SEQUENCE": "AlgorithmIdentifier", "AlgorithmIdentifier/SEQUENCE": "PSS", "PSS/{0}": "hash", "PSS/{1}": "mask"}
	lenient := testder.Leniencies{
		{Kinds: "removed", Wheres: "AlgorithmIdentifier/NULL, SEQUENCE/NULL", Why: "some write nothing where others write NULL"},
		{Kinds: "an element at the end", Wheres: "AlgorithmIdentifier", Why: "and NULL where ECDSA has nothing"},
	}
	for name, der := range map[string][]byte{
		"RSA": byRSA, "PSS": resign(t, byRSA, pssAlgorithm(t, 32), pss), "ECDSA": sign(t, w.responder, w.good(t)), "Ed25519": sign(t, issue(t, w.ca, "Ed25519", newKey(t, "Ed25519"), delegate), w.good(t)),
	} {
		r, err := ocsp.ParseResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		good := r.Algorithm
		if _, err := r.Verify(w.query()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for damage := range testder.Parse(good, names).Damages() {
			r.Algorithm = damage.DER
			if _, err := r.Verify(w.query()); err == nil && !lenient.Allow(damage) || err != nil && cause(err) != "signature" {
				t.Errorf("%s: %s: %v (%x)", name, damage, err, damage.DER)
			}
		}
		for _, parameters := range [][]byte{{0x05, 0}, {0x05, 1, 0}, {0x30, 0}, {0x05, 0, 0x05, 0}} {
			r.Algorithm = testder.Element(0x30, append(testder.Parse(good, names).Find("OBJECT IDENTIFIER"), parameters...))
			_, err := r.Verify(w.query())
			if wanted := len(parameters) == 2 && parameters[0] == 5 && (name == "RSA" || name == "ECDSA"); wanted != (err == nil) {
				t.Errorf("%s: parameters %x: %v", name, parameters, err)
			}
		}
	}
	for _, unused := range lenient.Unused() {
		t.Errorf("nothing needs the leniency %+v", unused)
	}

	// SHA-1, 20 octets of salt.
	defaults := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.RawValue{FullBytes: []byte{0x30, 0}}}
	sum := sha1.Sum(basic.Data.FullBytes)
	signature, err := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA1, sum[:], &rsa.PSSOptions{SaltLength: 20})
	if err != nil {
		t.Fatal(err)
	}
	q := w.query()
	if _, err := ocsp.Verify(resign(t, byRSA, defaults, signature), q); cause(err) != "signature" {
		t.Errorf("PSS over SHA-1: %v", err)
	}
	q.AllowSHA1 = true
	if _, err := ocsp.Verify(resign(t, byRSA, defaults, signature), q); err != nil {
		t.Errorf("PSS over SHA-1, allowed: %v", err)
	}
}

// TestAnotherAuthorityNamedInIt: an authority with a name and a key of its own cannot answer under the name of the
// issuer, and of many certificates of one name only some are tried.
func TestAnotherAuthorityNamedInIt(t *testing.T) {
	w := newWorld(t)
	other, err := ocsp.IssuerOf(w.other.cert)
	if err != nil {
		t.Fatal(err)
	}
	other.Name = w.ca.cert.RawSubject
	d := w.good(t)
	d.Answers[0].ID = other.CertID(crypto.SHA256, serialOf(t, w.leaf))
	q := w.query()
	q.Issuers = []*x509.Certificate{w.other.cert}
	if result, err := ocsp.Verify(sign(t, w.other, d), q); cause(err) != "wrong certificate" {
		t.Errorf("%s, %v", result.Status, err)
	}

	critical := issue(t, w.ca, "critical", newKey(t, ""), func(c *x509.Certificate) {
		delegate(c)
		c.ExtraExtensions[len(c.ExtraExtensions)-1].Critical = true // id-pkix-ocsp-nocheck
	})
	if result, err := ocsp.Verify(sign(t, critical, w.good(t)), w.query()); err != nil || !result.Responder.NoCheck {
		t.Errorf("a critical nocheck: %+v, %v", result.Responder, err)
	}

	byName, err := xocsp.CreateResponse(w.ca.cert, w.responder.cert, xocsp.Response{Status: xocsp.Good, SerialNumber: w.leaf.cert.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, w.responder.key)
	if err != nil {
		t.Fatal(err)
	}
	namesake := issue(t, w.ca, "Test CA OCSP", newKey(t, ""), delegate)
	for namesakes, want := range map[int]string{7: "", 8: "signature"} {
		q := ocsp.Query{Serial: serialOf(t, w.leaf), Issuers: []*x509.Certificate{w.ca.cert}, Time: now}
		q.Untrusted = append(slices.Repeat([]*x509.Certificate{namesake.cert}, namesakes), w.responder.cert)
		if _, err := ocsp.Verify(byName, q); cause(err) != want {
			t.Errorf("behind %d namesakes: %v, want %q", namesakes, err, want)
		}
	}
}

// TestJudgesTimes: each bound is judged by itself.
func TestJudgesTimes(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name   string
		answer func(*ocsp.SingleResponse)
		query  func(*ocsp.Query)
		want   string
	}{
		{"the caller's bound where nextUpdate is absent", func(a *ocsp.SingleResponse) { a.NextUpdate = time.Time{} }, func(q *ocsp.Query) { q.MaxAge, q.Time = time.Hour, now.Add(2*time.Hour) }, "stale"},
		{"nextUpdate alone bounds what has one", func(a *ocsp.SingleResponse) { a.NextUpdate = now.Add(96 * time.Hour) }, func(q *ocsp.Query) { q.Time = now.Add(48 * time.Hour) }, ""},
		{"nextUpdate before thisUpdate, within skew", func(a *ocsp.SingleResponse) { a.NextUpdate = a.ThisUpdate.Add(-time.Second) }, func(q *ocsp.Query) { q.Skew = time.Hour }, "stale"},
		{"an archive that begins after the certificate's end", func(a *ocsp.SingleResponse) { a.ArchiveCutoff = now.Add(-time.Hour) }, func(q *ocsp.Query) { q.Certificate = reissue(t, w.ca, w.leaf, now.Add(-2*time.Hour)) }, "outside validity"},
		{"produced before the certificate", nil, func(q *ocsp.Query) {
			q.Certificate = issue(t, w.ca, "leaf.example", w.leaf.key, func(c *x509.Certificate) {
				c.SerialNumber, c.NotBefore = w.leaf.cert.SerialNumber, now.Add(time.Minute)
			}).cert
		}, "outside validity"},
	} {
		d := w.good(t)
		if c.answer != nil {
			c.answer(&d.Answers[0])
		}
		q := w.query()
		c.query(&q)
		result, err := ocsp.Verify(sign(t, w.responder, d), q)
		if cause(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if result.NonceMatched {
			t.Errorf("%s: a nonce that nobody demanded has matched", c.name)
		}
	}
	q := w.query()
	q.Nonce = []byte{1}
	if result, err := ocsp.Verify(sign(t, w.responder, withNonce(w.good(t), q.Nonce)), q); err != nil || !result.NonceMatched {
		t.Errorf("the nonce that was demanded: %+v, %v", result, err)
	}
	hold, err := xocsp.CreateResponse(w.ca.cert, w.responder.cert, xocsp.Response{Status: xocsp.Revoked, RevocationReason: 6, RevokedAt: time.Unix(0, 0), Certificate: w.responder.cert,
		SerialNumber: w.leaf.cert.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, w.responder.key)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := ocsp.Verify(hold, ocsp.Query{Serial: serialOf(t, w.leaf), Issuers: []*x509.Certificate{w.ca.cert}, Time: now}); err != nil || result.NeverIssued || result.Status != pki.StatusRevoked {
		t.Errorf("never issued, of a responder that does not say so: %+v, %v", result, err)
	}
	for _, reason := range []pki.Reason{pki.Unspecified, pki.CertificateHold} {
		d := w.good(t)
		d.ExtendedRevoke = true
		a := &d.Answers[0]
		a.Status, a.Reason, a.RevokedAt = pki.StatusRevoked, reason, time.Unix(0, 0)
		if reason == pki.CertificateHold {
			a.RevokedAt = now.Add(-time.Hour)
		}
		if result, err := ocsp.Verify(sign(t, w.responder, d), w.query()); err != nil || result.NeverIssued {
			t.Errorf("revoked at %s for %s is taken for never issued: %v", a.RevokedAt, reason, err)
		}
	}
}

// TestCheckComparesEverything: an answer that differs in one field from what was meant does not leave.
func TestCheckComparesEverything(t *testing.T) {
	w := newWorld(t)
	d := w.good(t)
	a := &d.Answers[0]
	a.Status, a.Reason, a.RevokedAt, a.InvalidityAt, a.ArchiveCutoff = pki.StatusRevoked, pki.Superseded, now.Add(-time.Hour), now.Add(-2*time.Hour), now.Add(-3*time.Hour)
	der := sign(t, w.responder, d)
	for name, change := range map[string]func(*ocsp.SingleResponse){
		"":              func(*ocsp.SingleResponse) {},
		"reason":        func(a *ocsp.SingleResponse) { a.Reason = pki.KeyCompromise },
		"revokedAt":     func(a *ocsp.SingleResponse) { a.RevokedAt = a.RevokedAt.Add(time.Second) },
		"thisUpdate":    func(a *ocsp.SingleResponse) { a.ThisUpdate = a.ThisUpdate.Add(time.Second) },
		"nextUpdate":    func(a *ocsp.SingleResponse) { a.NextUpdate = a.NextUpdate.Add(time.Second) },
		"invalidityAt":  func(a *ocsp.SingleResponse) { a.InvalidityAt = time.Time{} },
		"archiveCutoff": func(a *ocsp.SingleResponse) { a.ArchiveCutoff = a.ArchiveCutoff.Add(time.Second) },
		"hash":          func(a *ocsp.SingleResponse) { a.ID = certID(t, w.ca.cert, w.leaf.cert, crypto.SHA1) },
		"name hash":     func(a *ocsp.SingleResponse) { a.ID.NameHash = a.ID.KeyHash },
		"key hash":      func(a *ocsp.SingleResponse) { a.ID.KeyHash = a.ID.NameHash },
	} {
		meant := *a
		change(&meant)
		if err := ocsp.Check(der, ocsp.Expected{Responder: w.responder.cert, Answers: []ocsp.SingleResponse{meant}}); (err == nil) != (name == "") {
			t.Errorf("another %s: %v", name, err)
		}
	}
	late := *a
	late.RevokedAt = now.Add(time.Second)
	d.Answers = []ocsp.SingleResponse{late}
	if err := ocsp.Check(sign(t, w.responder, d), ocsp.Expected{Responder: w.responder.cert, Answers: d.Answers}); err == nil {
		t.Error("revoked after the answer was produced")
	}
}

// TestSerialOfDamagedCertificates: where crypto/x509 reads a certificate, so do we, and the same serial number.
func TestSerialOfDamagedCertificates(t *testing.T) {
	w := newWorld(t)
	for damage := range testder.Parse(w.leaf.cert.Raw, nil).Damages() {
		theirs, err := x509.ParseCertificate(damage.DER)
		octets, ourErr := ocsp.SerialOfDER(damage.DER)
		if serial, ok := pki.SerialFromInteger(octets); err == nil && (ourErr != nil || ok && serial.Big().Cmp(theirs.SerialNumber) != 0) {
			t.Errorf("%s: crypto/x509 reads %x, we %x, %v", damage, theirs.SerialNumber, octets, ourErr)
		}
	}
	for oid, want := range map[ocsp.OID]string{ocsp.OIDNonce: "1.3.6.1.5.5.7.48.1.2", "\x88\x37\x03": "2.999.3", "\x2a": "1.2", "\x55\x1d\x15": "2.5.29.21"} {
		if oid.String() != want {
			t.Errorf("%x is %s, want %s", string(oid), oid, want)
		}
	}
}
