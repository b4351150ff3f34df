package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestForgeryBySibling repeats an experiment: an ordinary leaf of the same issuer signs "good" for another, with both
// dates in the past. x/crypto/ocsp takes it.
func TestForgeryBySibling(t *testing.T) {
	w := newWorld(t)
	forged, err := xocsp.CreateResponse(w.ca.cert, w.sibling.cert, xocsp.Response{
		Status: xocsp.Good, SerialNumber: w.leaf.cert.SerialNumber, Certificate: w.sibling.cert,
		ThisUpdate: now.Add(-20 * time.Hour), NextUpdate: now.Add(-10 * time.Hour),
	}, w.sibling.key)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := xocsp.ParseResponseForCert(forged, w.leaf.cert, w.ca.cert); err != nil || said.Status != xocsp.Good {
		t.Errorf("x/crypto/ocsp no longer takes the forgery (%v): say so in the documentation", err)
	}
	result, err := ocsp.Verify(forged, w.query())
	if _, ok := errors.AsType[*ocsp.UnauthorizedError](err); !ok {
		t.Errorf("verify gave %v, want an unauthorised responder", err)
	}
	if result.Status != pki.StatusUnknown {
		t.Errorf("verify said %s beside an error", result.Status)
	}
	fresh := sign(t, w.sibling, w.good(t))
	if _, err := ocsp.Verify(fresh, w.query()); err == nil {
		t.Error("a fresh forgery by a sibling was accepted")
	}
}

func TestZeroValuesAreNotGood(t *testing.T) {
	if s := (ocsp.Result{}).Status; s == pki.StatusGood || s.Conclusive() {
		t.Errorf("the zero Result says %s", s)
	}
	if s := (ocsp.SingleResponse{}).Status; s == pki.StatusGood {
		t.Errorf("the zero Answer says %s", s)
	}
	w := newWorld(t)
	if result, err := new(ocsp.Response).Verify(w.query()); err == nil || result.Status == pki.StatusGood {
		t.Errorf("the zero Response verified: %v, %v", result.Status, err)
	}
}

// cause names the type of an error for tables.
func cause(err error) string {
	var (
		malformed    *ocsp.MalformedError
		unsuccessful *ocsp.UnsuccessfulError
		signature    *ocsp.SignatureError
		unauthorized *ocsp.UnauthorizedError
		expired      *ocsp.ExpiredResponderError
		wrong        *ocsp.WrongCertificateError
		stale        *ocsp.StaleError
		outside      *ocsp.OutsideValidityError
		nonce        *ocsp.NonceError
		critical     *ocsp.CriticalExtensionError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &malformed):
		return "malformed"
	case errors.As(err, &unsuccessful):
		return "unsuccessful"
	case errors.As(err, &signature):
		return "signature"
	case errors.As(err, &unauthorized):
		return "unauthorized"
	case errors.As(err, &expired):
		return "expired responder"
	case errors.As(err, &wrong):
		return "wrong certificate"
	case errors.As(err, &stale):
		return "stale"
	case errors.As(err, &outside):
		return "outside validity"
	case errors.As(err, &nonce):
		return "nonce"
	case errors.As(err, &critical):
		return "critical"
	}
	return "other: " + err.Error()
}

func TestVerify(t *testing.T) {
	w := newWorld(t)
	answer := func(change func(*ocsp.SingleResponse)) ocsp.ResponseData {
		d := w.good(t)
		change(&d.Answers[0])
		return d
	}
	flip := func(der []byte, at int) []byte {
		der = bytes.Clone(der)
		der[at] ^= 1
		return der
	}
	newCA := issue(t, nil, "Test CA", newKey(t, ""), nil) // same name, other key
	newResponder := issue(t, newCA, "Test CA OCSP", newKey(t, ""), delegate)
	alias := issue(t, nil, "Alias of Test CA", w.ca.key, nil)
	aliasResponder := issue(t, alias, "Alias OCSP", newKey(t, ""), delegate)
	child := issue(t, w.ca, "Child CA", newKey(t, ""), func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	grandchild := issue(t, child, "Test CA OCSP", newKey(t, ""), delegate)
	plain := sign(t, w.responder, w.good(t))
	nonce := bytes.Repeat([]byte{7}, 32)
	issuer, err := ocsp.IssuerOf(w.ca.cert)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := ocsp.SerialOf(w.leaf.cert)
	if err != nil {
		t.Fatal(err)
	}
	otherIssuer, err := ocsp.IssuerOf(w.other.cert)
	if err != nil {
		t.Fatal(err)
	}
	mixed := func(name, key ocsp.Issuer) ocsp.CertID {
		return ocsp.Issuer{Name: name.Name, Key: key.Key}.CertID(crypto.SHA1, serial)
	}

	for _, c := range []struct {
		name   string
		der    []byte
		change func(*ocsp.Query)
		cause  string
		status pki.Status
	}{
		{"good by delegate", plain, nil, "", pki.StatusGood},
		{"good by issuer itself", sign(t, w.ca, w.good(t)), nil, "", pki.StatusGood},
		{"revoked", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) {
			a.Status, a.RevokedAt, a.Reason = pki.StatusRevoked, now.Add(-time.Hour), pki.KeyCompromise
		})), nil, "", pki.StatusRevoked},
		{"unknown", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.Status = pki.StatusUnknown })), nil, "", pki.StatusUnknown},
		{"delegate from the pool", withoutCertificates(t, plain), func(q *ocsp.Query) { q.Untrusted = []*x509.Certificate{w.sibling.cert, w.responder.cert} }, "", pki.StatusGood},
		{"delegate nowhere", withoutCertificates(t, plain), nil, "unauthorized", 0},
		{"several issuers of one name, old one counts", plain, func(q *ocsp.Query) { q.Issuers = []*x509.Certificate{newCA.cert, w.other.cert, w.ca.cert} }, "", pki.StatusGood},
		{"issuer after a key change has no say", sign(t, newResponder, w.good(t)), func(q *ocsp.Query) { q.Issuers = []*x509.Certificate{newCA.cert, w.ca.cert} }, "unauthorized", 0},
		{"the same key change, signed directly", sign(t, newCA, w.good(t)), func(q *ocsp.Query) { q.Issuers = []*x509.Certificate{newCA.cert, w.ca.cert} }, "unauthorized", 0},
		{"the same key change, for its own identifier", sign(t, newCA, answer(func(a *ocsp.SingleResponse) {
			a.ID = certID(t, newCA.cert, w.leaf.cert, crypto.SHA256)
		})), func(q *ocsp.Query) { q.Issuers = []*x509.Certificate{newCA.cert, w.ca.cert} }, "wrong certificate", 0},
		{"delegate of another name with the same key", sign(t, aliasResponder, w.good(t)), nil, "unauthorized", 0},
		{"only another issuer given", plain, func(q *ocsp.Query) { q.Issuers = []*x509.Certificate{w.other.cert} }, "wrong certificate", 0},
		{"no issuer given", plain, func(q *ocsp.Query) { q.Issuers = nil }, "wrong certificate", 0},
		{"sibling leaf", sign(t, w.sibling, w.good(t)), nil, "unauthorized", 0},
		{"the certificate in question itself", sign(t, w.leaf, w.good(t)), nil, "unauthorized", 0},
		{"other authority", sign(t, w.other, w.good(t)), nil, "unauthorized", 0},
		{"delegate of a delegate", sign(t, grandchild, w.good(t)), func(q *ocsp.Query) { q.Untrusted = []*x509.Certificate{child.cert} }, "unauthorized", 0},
		{"any usage is not OCSP signing", sign(t, issue(t, w.ca, "any", newKey(t, ""), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}), w.good(t)), nil, "unauthorized", 0},
		{"key usage excludes signing", sign(t, issue(t, w.ca, "usage", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.KeyUsage = x509.KeyUsageKeyAgreement
		}), w.good(t)), nil, "unauthorized", 0},
		{"no key usage excludes nothing", sign(t, issue(t, w.ca, "silent", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.KeyUsage = 0
		}), w.good(t)), nil, "", pki.StatusGood},
		{"delegate with unknown critical extension", sign(t, issue(t, w.ca, "critical", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
		}), w.good(t)), nil, "unauthorized", 0},
		{"delegate expired", sign(t, issue(t, w.ca, "old", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.NotAfter = now.Add(-time.Second)
		}), w.good(t)), nil, "expired responder", 0},
		{"delegate not yet valid", sign(t, issue(t, w.ca, "early", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.NotBefore = now.Add(time.Hour)
		}), w.good(t)), nil, "expired responder", 0},
		{"delegate within skew", sign(t, issue(t, w.ca, "early", newKey(t, ""), func(c *x509.Certificate) {
			delegate(c)
			c.NotBefore = now.Add(time.Minute)
		}), w.good(t)), func(q *ocsp.Query) { q.Skew = 2 * time.Minute }, "", pki.StatusGood},
		{"signature broken", flip(sign(t, w.ca, w.good(t)), signatureAt(t, sign(t, w.ca, w.good(t)))), nil, "signature", 0},
		{"answer altered", bytes.Replace(bytes.Clone(plain), []byte{0x80, 0x00, 0x18}, []byte{0x82, 0x00, 0x18}, 1), nil, "signature", 0},
		{"other certificate", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) {
			a.ID = certID(t, w.ca.cert, w.sibling.cert, crypto.SHA256)
		})), nil, "wrong certificate", 0},
		{"same serial of another issuer", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID = otherIssuer.CertID(crypto.SHA1, serial) })), nil, "wrong certificate", 0},
		{"wrong name hash behind a right key hash", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID = mixed(otherIssuer, issuer) })), nil, "wrong certificate", 0},
		{"wrong key hash behind a right name hash", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID = mixed(issuer, otherIssuer) })), nil, "wrong certificate", 0},
		{"serial with another sign", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID.Serial = append([]byte{0xff}, serial[1:]...) })), nil, "wrong certificate", 0},
		{"SHA-1 identifier", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID = certID(t, w.ca.cert, w.leaf.cert, crypto.SHA1) })), nil, "", pki.StatusGood},
		{"SHA-512 identifier", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ID = certID(t, w.ca.cert, w.leaf.cert, crypto.SHA512) })), nil, "", pki.StatusGood},
		{"ended", plain, func(q *ocsp.Query) { q.Time = now.Add(time.Hour) }, "stale", 0},
		{"a second before its end", plain, func(q *ocsp.Query) { q.Time = now.Add(time.Hour - time.Second) }, "", pki.StatusGood},
		{"ended within skew", plain, func(q *ocsp.Query) { q.Time, q.Skew = now.Add(time.Hour), time.Minute }, "", pki.StatusGood},
		{"from the future", plain, func(q *ocsp.Query) { q.Time = now.Add(-time.Hour) }, "stale", 0},
		{"older than the caller allows", plain, func(q *ocsp.Query) { q.MaxAge = 30 * time.Second }, "stale", 0},
		{"without nextUpdate, fresh", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.NextUpdate = time.Time{} })), nil, "", pki.StatusGood},
		{"without nextUpdate, two days old", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.NextUpdate = time.Time{} })), func(q *ocsp.Query) { q.Time = now.Add(48 * time.Hour) }, "stale", 0},
		{"nextUpdate before thisUpdate", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.NextUpdate = a.ThisUpdate.Add(-time.Second) })), nil, "stale", 0},
		{"produced after the certificate's end", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) {})), func(q *ocsp.Query) {
			q.Certificate = reissue(t, w.ca, w.leaf, now.Add(-2*time.Hour))
		}, "outside validity", 0},
		{"the same within the archive", sign(t, w.responder, answer(func(a *ocsp.SingleResponse) { a.ArchiveCutoff = now.Add(-365 * 24 * time.Hour) })), func(q *ocsp.Query) {
			q.Certificate = reissue(t, w.ca, w.leaf, now.Add(-2*time.Hour))
		}, "", pki.StatusGood},
		{"nonce demanded and absent", plain, func(q *ocsp.Query) { q.Nonce = nonce }, "nonce", 0},
		{"nonce demanded and other", sign(t, w.responder, withNonce(w.good(t), nonce[:31])), func(q *ocsp.Query) { q.Nonce = nonce }, "nonce", 0},
		{"nonce demanded and there", sign(t, w.responder, withNonce(w.good(t), nonce)), func(q *ocsp.Query) { q.Nonce = nonce }, "", pki.StatusGood},
		{"nonce not demanded and there", sign(t, w.responder, withNonce(w.good(t), nonce)), nil, "", pki.StatusGood},
		{"tryLater", ocsp.TryLater.Marshal(), nil, "unsuccessful", 0},
		{"unauthorized", ocsp.Unauthorized.Marshal(), nil, "unsuccessful", 0},
		{"internalError", ocsp.InternalError.Marshal(), nil, "unsuccessful", 0},
		{"malformedRequest", ocsp.MalformedRequest.Marshal(), nil, "unsuccessful", 0},
		{"successful without a body", []byte{0x30, 3, 0x0a, 1, 0}, nil, "malformed", 0},
		{"nothing", nil, nil, "malformed", 0},
		{"trailing octets", append(bytes.Clone(plain), 0), nil, "malformed", 0},
		{"truncated", plain[:len(plain)-1], nil, "malformed", 0},
		{"too large", make([]byte, ocsp.MaxResponse+1), nil, "malformed", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.query()
			if c.change != nil {
				c.change(&q)
			}
			result, err := ocsp.Verify(c.der, q)
			if got := cause(err); got != c.cause {
				t.Fatalf("%v: cause %q, want %q", err, got, c.cause)
			}
			if result.Status != c.status {
				t.Errorf("status %s, want %s", result.Status, c.status)
			}
			if err != nil && result.Responder.Certificate != nil {
				t.Error("a result beside an error")
			}
		})
	}
}

func withNonce(d ocsp.ResponseData, nonce []byte) ocsp.ResponseData {
	d.Nonce = nonce
	return d
}

// reissue makes a certificate with the name, key and serial number of leaf that ends at notAfter.
func reissue(t *testing.T, ca, leaf *party, notAfter time.Time) *x509.Certificate {
	return issue(t, ca, leaf.cert.Subject.CommonName, leaf.key, func(c *x509.Certificate) {
		c.SerialNumber, c.NotAfter = leaf.cert.SerialNumber, notAfter
	}).cert
}

// TestStrictestAnswerWins: of several fresh answers about one certificate the worst counts, and stale ones do not.
func TestStrictestAnswerWins(t *testing.T) {
	w := newWorld(t)
	good := w.good(t).Answers[0]
	revoked, unknown, old := good, good, good
	revoked.Status, revoked.RevokedAt = pki.StatusRevoked, now.Add(-time.Hour)
	unknown.Status = pki.StatusUnknown
	old.Status, old.RevokedAt, old.NextUpdate = pki.StatusRevoked, now.Add(-time.Hour), now.Add(-time.Second)
	sha1 := good
	sha1.ID = certID(t, w.ca.cert, w.leaf.cert, crypto.SHA1)
	for _, c := range []struct {
		name    string
		answers []ocsp.SingleResponse
		want    pki.Status
	}{
		{"good, good by another hash", []ocsp.SingleResponse{good, sha1}, pki.StatusGood},
		{"good, revoked", []ocsp.SingleResponse{good, revoked}, pki.StatusRevoked},
		{"revoked, good", []ocsp.SingleResponse{revoked, good}, pki.StatusRevoked},
		{"good, unknown", []ocsp.SingleResponse{good, unknown}, pki.StatusUnknown},
		{"unknown, revoked, good", []ocsp.SingleResponse{unknown, revoked, good}, pki.StatusRevoked},
		{"stale revoked, good", []ocsp.SingleResponse{old, good}, pki.StatusGood},
	} {
		result, err := ocsp.Verify(sign(t, w.responder, ocsp.ResponseData{ProducedAt: now, Answers: c.answers}), w.query())
		if err != nil || result.Status != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, result.Status, err, c.want)
		}
	}
}

// TestResultCarriesTheFacts checks every field, and that a stale answer keeps what it said.
func TestResultCarriesTheFacts(t *testing.T) {
	w := newWorld(t)
	d := w.good(t)
	d.ExtendedRevoke = true
	a := &d.Answers[0]
	a.Status, a.Reason, a.RevokedAt = pki.StatusRevoked, pki.Superseded, now.Add(-3*time.Hour)
	a.InvalidityAt, a.ArchiveCutoff = now.Add(-5*time.Hour), now.Add(-1000*time.Hour)
	der := sign(t, w.responder, d)
	result, err := ocsp.Verify(der, w.query())
	if err != nil {
		t.Fatal(err)
	}
	if result.Reason != pki.Superseded || !result.RevokedAt.Equal(a.RevokedAt) || !result.InvalidityAt.Equal(a.InvalidityAt) ||
		!result.ThisUpdate.Equal(a.ThisUpdate) || !result.NextUpdate.Equal(a.NextUpdate) || !result.ProducedAt.Equal(now) ||
		!result.ArchiveCutoff.Equal(a.ArchiveCutoff) || !result.ExtendedRevoke || result.NeverIssued {
		t.Errorf("result %+v", result)
	}
	r := result.Responder
	if !r.Delegated || !r.NoCheck || !r.Certificate.Equal(w.responder.cert) || !r.Issuer.Equal(w.ca.cert) {
		t.Errorf("responder %+v", r)
	}
	q := w.query()
	q.Time = now.Add(2 * time.Hour)
	_, err = ocsp.Verify(der, q)
	if stale, ok := errors.AsType[*ocsp.StaleError](err); !ok || stale.Said.Status != pki.StatusRevoked {
		t.Errorf("a stale revoked answer gave %v", err)
	}
}

func TestNeverIssued(t *testing.T) {
	w := newWorld(t)
	id := certID(t, w.ca.cert, w.leaf.cert, crypto.SHA256)
	d := ocsp.ResponseData{ProducedAt: now, Answers: []ocsp.SingleResponse{ocsp.NeverIssued(id, now, now.Add(time.Hour))}}
	signer, err := ocsp.NewSigner(w.responder.key, w.responder.cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(d); err == nil {
		t.Error("signed never issued without extended-revoke (RFC 6960, Section 4.4.8)")
	}
	d.ExtendedRevoke = true
	result, err := ocsp.Verify(sign(t, w.responder, d), w.query())
	if err != nil || result.Status != pki.StatusRevoked || !result.NeverIssued || result.Reason != pki.CertificateHold {
		t.Errorf("result %+v, %v", result, err)
	}
}

// TestSignatureAlgorithms signs with every kind of key that may sign, and reads RSA-PSS and SHA-1, which may not.
func TestSignatureAlgorithms(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []string{"P-256", "P-384", "P-521", "RSA", "Ed25519"} {
		responder := issue(t, w.ca, kind, newKey(t, kind), delegate)
		der := sign(t, responder, w.good(t))
		if result, err := ocsp.Verify(der, w.query()); err != nil || result.Status != pki.StatusGood {
			t.Errorf("%s: %s, %v", kind, result.Status, err)
		}
		if _, err := ocsp.Verify(forge(t, der), w.query()); cause(err) != "signature" {
			t.Errorf("%s: a wrong signature: %v", kind, err)
		}
	}
	key := newKey(t, "RSA").(*rsa.PrivateKey)
	responder := issue(t, w.ca, "PSS", key, delegate)
	plain := sign(t, responder, w.good(t))
	parsed, err := ocsp.ParseResponse(plain)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(parsed.Signed)
	for _, salt := range []int{1, 20, 32, 64} {
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		der := resign(t, plain, pssAlgorithm(t, salt), signature)
		if result, err := ocsp.Verify(der, w.query()); err != nil || result.Status != pki.StatusGood {
			t.Errorf("PSS with salt %d: %s, %v", salt, result.Status, err)
		}
		if _, err := ocsp.Verify(forge(t, der), w.query()); cause(err) != "signature" {
			t.Errorf("PSS with salt %d, a wrong signature: %v", salt, err)
		}
		if _, err := ocsp.Verify(resign(t, plain, pssAlgorithm(t, salt+1), signature), w.query()); cause(err) != "signature" {
			t.Errorf("PSS with salt %d declared as %d: %v", salt, salt+1, err)
		}
	}
	sha1 := resignSHA1(t, plain, key)
	if _, err := ocsp.Verify(sha1, w.query()); cause(err) != "signature" {
		t.Errorf("SHA-1 signature: %v", err)
	}
	q := w.query()
	q.AllowSHA1 = true
	if result, err := ocsp.Verify(sha1, q); err != nil || result.Status != pki.StatusGood {
		t.Errorf("SHA-1 signature, allowed: %s, %v", result.Status, err)
	}
}

// forge changes the last octet of a response's signature.
func forge(t *testing.T, der []byte) []byte {
	t.Helper()
	parsed, err := ocsp.ParseResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(der)
	forged[bytes.Index(der, parsed.Signature)+len(parsed.Signature)-1] ^= 1
	return forged
}

func TestUnknownCriticalExtensions(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name     string
		id       asn1.ObjectIdentifier
		critical bool
		want     string
	}{
		{"unknown, critical", asn1.ObjectIdentifier{1, 2, 3, 4}, true, "critical"},
		{"unknown", asn1.ObjectIdentifier{1, 2, 3, 4}, false, ""},
		{"SCT list, critical", asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 5}, true, ""},
	} {
		der, err := xocsp.CreateResponse(w.ca.cert, w.responder.cert, xocsp.Response{
			Status: xocsp.Good, SerialNumber: w.leaf.cert.SerialNumber, Certificate: w.responder.cert, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: c.id, Critical: c.critical, Value: []byte{5, 0}}},
		}, w.responder.key)
		if err != nil {
			t.Fatal(err)
		}
		// x/crypto/ocsp dates production by the machine's clock.
		q := w.query()
		q.Certificate, q.Serial = nil, serialOf(t, w.leaf)
		if _, err := ocsp.Verify(der, q); cause(err) != c.want {
			t.Errorf("%s: %v, want cause %q", c.name, err, c.want)
		}
	}
}

func serialOf(t testing.TB, p *party) []byte {
	t.Helper()
	serial, err := ocsp.SerialOf(p.cert)
	if err != nil {
		t.Fatal(err)
	}
	return serial
}

// TestForeignSerials: other authorities have serial numbers that crypto/x509 does not take.
func TestForeignSerials(t *testing.T) {
	w := newWorld(t)
	issuer, err := ocsp.IssuerOf(w.ca.cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, serial := range map[string][]byte{
		"zero": {0}, "negative": {0x80}, "not minimal": {0, 0, 5}, "long": bytes.Repeat([]byte{0x7f}, 40),
	} {
		d := w.good(t)
		d.Answers[0].ID = issuer.CertID(crypto.SHA1, serial)
		der := sign(t, w.responder, d)
		q := ocsp.Query{Serial: serial, Issuers: []*x509.Certificate{w.ca.cert}, Time: now}
		if result, err := ocsp.Verify(der, q); err != nil || result.Status != pki.StatusGood {
			t.Errorf("%s: %s, %v", name, result.Status, err)
		}
		q.Serial = append([]byte{0}, serial...)
		if _, err := ocsp.Verify(der, q); cause(err) != "wrong certificate" {
			t.Errorf("%s with one octet more: %v", name, err)
		}
		if _, ok := pki.SerialFromInteger(serial); ok != (name == "zero") {
			t.Errorf("%s: taken for a serial of ours: %v", name, ok)
		}
	}
	for _, s := range []pki.Serial{{}, {19: 5}, {0: 0x41}, {0: 0x80}} {
		if got, ok := pki.SerialFromInteger(s.Integer()); !ok || got != s {
			t.Errorf("serial %s came back as %s, %v", s, got, ok)
		}
		want, err := asn1.Marshal(new(big.Int).SetBytes(s[:]))
		if err != nil || !bytes.Equal(want[2:], s.Integer()) {
			t.Errorf("serial %s: octets %x, want %x", s, s.Integer(), want[2:])
		}
	}
}

// TestVerifyResponder asks who signed, whatever the answer's age.
func TestVerifyResponder(t *testing.T) {
	w := newWorld(t)
	q := ocsp.Query{Issuers: []*x509.Certificate{w.other.cert, w.ca.cert}, Time: now.Add(20 * 24 * time.Hour)}
	for _, c := range []struct {
		name string
		by   *party
		want string
	}{{"issuer", w.ca, ""}, {"delegate", w.responder, ""}, {"sibling", w.sibling, "unauthorized"}, {"other authority", w.other, "unauthorized"}} {
		parsed, err := ocsp.ParseResponse(sign(t, c.by, w.good(t)))
		if err != nil {
			t.Fatal(err)
		}
		responder, err := parsed.VerifyResponder(q)
		if cause(err) != c.want || err == nil && !responder.Issuer.Equal(w.ca.cert) {
			t.Errorf("%s: %+v, %v", c.name, responder.Issuer, err)
		}
	}
	parsed, err := ocsp.ParseResponse(sign(t, w.other, w.good(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.VerifyResponder(ocsp.Query{Issuers: []*x509.Certificate{w.other.cert}, Time: now}); cause(err) != "wrong certificate" {
		t.Errorf("an authority that the answers do not name: %v", err)
	}
}

// TestKnownDelegates: what is remembered is the issuer's signature on a certificate, and nothing else.
func TestKnownDelegates(t *testing.T) {
	w := newWorld(t)
	known := new(ocsp.KnownDelegates)
	forger := issue(t, nil, "Test CA", newKey(t, ""), nil) // the name of the issuer, and another key
	forged := issue(t, forger, "Test CA OCSP", newKey(t, ""), delegate)
	ending := issue(t, w.ca, "ending", newKey(t, ""), func(c *x509.Certificate) {
		delegate(c)
		c.NotAfter = now.Add(time.Minute)
	})
	for range 2 {
		for _, c := range []struct {
			by   *party
			at   time.Duration
			want string
		}{
			{w.responder, 0, ""}, {forged, 0, "unauthorized"}, {w.sibling, 0, "unauthorized"}, {ending, 0, ""}, {ending, 2 * time.Minute, "expired responder"},
		} {
			q := w.query()
			q.Known, q.Time = known, now.Add(c.at)
			if _, err := ocsp.Verify(sign(t, c.by, w.good(t)), q); cause(err) != c.want {
				t.Errorf("%s, %s later: %v, want %q", c.by.cert.Subject.CommonName, c.at, err, c.want)
			}
		}
	}
	q := w.query()
	q.Known, q.Issuers = known, []*x509.Certificate{forger.cert}
	draft := w.good(t)
	draft.Answers[0].ID = certID(t, forger.cert, w.leaf.cert, crypto.SHA256)
	if _, err := ocsp.Verify(sign(t, w.responder, draft), q); cause(err) != "unauthorized" {
		t.Errorf("a delegate known under one issuer speaks for another of the same name: %v", err)
	}
}
