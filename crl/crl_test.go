package crl_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// authority is a CA for tests: a key and its self-signed certificate.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string, key crypto.Signer, change ...func(*x509.Certificate)) authority {
	t.Helper()
	id := sha1.Sum([]byte(name))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Signet Tests"}},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id[:],
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) template() crl.Template {
	return crl.Template{Issuer: a.cert.RawSubject, KeyID: a.cert.SubjectKeyId, Number: 7, ThisUpdate: now, NextUpdate: now.Add(72 * time.Hour)}
}

// revocations draws n entries of every shape.
func revocations(n int) iter.Seq2[uint64, crl.Revocation] {
	reasons := []pki.Reason{pki.Unspecified, pki.KeyCompromise, pki.Superseded, pki.PrivilegeWithdrawn, pki.CertificateHold}
	return func(yield func(uint64, crl.Revocation) bool) {
		for i := range n {
			r := crl.Revocation{Serial: serial(i), At: now.Add(-time.Duration(i%5000) * time.Minute), Reason: reasons[i%len(reasons)]}
			if i%7 == 0 {
				r.InvalidityAt = now.AddDate(0, -1, 0)
			}
			if !yield(uint64(i+1), r) {
				return
			}
		}
	}
}

func serial(i int) (s pki.Serial) {
	s[0] = 0x41
	binary.BigEndian.PutUint64(s[1:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(s[12:], uint64(i))
	return s
}

func filled(n int) *crl.Arena {
	a := &crl.Arena{}
	for seq, r := range revocations(n) {
		a.Add(seq, r)
	}
	return a
}

func TestRoundTrip(t *testing.T) {
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	for _, key := range []crypto.Signer{newKey(t), p384, p521, rsaKey, edKey} {
		ca := newAuthority(t, "Round Trip CA", key)
		for _, n := range []int{0, 1, 2, 30000} {
			t.Run(fmt.Sprintf("%T/%d", key, n), func(t *testing.T) { roundTrip(t, ca, n) })
		}
	}
}

func roundTrip(t *testing.T, ca authority, n int) {
	arena := filled(n)
	template := ca.template()
	template.URLs = []string{"http://crl.example/a/0-0.crl", "http://new.example/a/0-0.crl"}
	template.UserCerts = true
	template.Freshest = []string{"http://crl.example/a/delta.crl"}
	template.ExpiredSince = now.AddDate(-10, 0, 0)
	entries, count := arena.At(uint64(n))
	der, sig, err := signBytes(template, entries, ca.key)
	if err != nil {
		t.Fatal(err)
	}

	again, err := template.Assemble(entries, sig)
	if err != nil || !bytes.Equal(again.Bytes(), der) {
		t.Fatalf("assembling from the signature gives other bytes (%v)", err)
	}
	digest := arena.Digest()
	if _, err := crl.Check(crl.Document{der}, crl.Want{Template: template, Key: ca.key.Public(), Previous: 6, Count: count, Digest: &digest, Now: now, MaxValidity: 240 * time.Hour}); err != nil {
		t.Fatal(err)
	}

	theirs, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.CheckSignatureFrom(ca.cert); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func() (*crl.List, error){
		func() (*crl.List, error) { return crl.Parse(der) },
		func() (*crl.List, error) { return crl.Read(bytes.NewReader(der), int64(len(der))) },
		func() (*crl.List, error) { return crl.Read(iotest.HalfReader(bytes.NewReader(der)), int64(len(der))) },
	} {
		ours, err := read()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, ours, theirs)
		if err := ours.Verify(ca.cert); err != nil {
			t.Fatal(err)
		}
	}

	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	ours, err := crl.Parse(forged)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*crl.SignatureError](ours.Verify(ca.cert)); !ok || e.Cause != crl.CauseSignature {
		t.Errorf("a wrong signature: %v", e)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for _, pub := range []crypto.PublicKey{ed.Public(), newKey(t).Public(), nil} { // others of its kind, and of other kinds
		if e, ok := errors.AsType[*crl.SignatureError](ours.VerifyKey(pub, pki.KeyHash{1})); !ok || e.Cause != crl.CauseSignature {
			t.Errorf("verified with a %T: %v", pub, e)
		}
	}
}

// compare holds our reading against that of crypto/x509.
func compare(t *testing.T, ours *crl.List, theirs *x509.RevocationList) {
	t.Helper()
	if !bytes.Equal(ours.Issuer, theirs.RawIssuer) || !ours.ThisUpdate.Equal(theirs.ThisUpdate) || !ours.NextUpdate.Equal(theirs.NextUpdate) {
		t.Fatalf("header differs: %v %v", ours.ThisUpdate, ours.NextUpdate)
	}
	if ours.HasNumber != (theirs.Number != nil) || ours.HasNumber && ours.Number.String() != theirs.Number.String() {
		t.Fatalf("number %s, want %s", ours.Number, theirs.Number)
	}
	if ours.Len() != len(theirs.RevokedCertificateEntries) {
		t.Fatalf("%d entries, want %d", ours.Len(), len(theirs.RevokedCertificateEntries))
	}
	i := 0
	for e := range ours.Entries() {
		want := theirs.RevokedCertificateEntries[i]
		if new(big.Int).SetBytes(e.Serial).Cmp(want.SerialNumber) != 0 || !e.RevokedAt.Equal(want.RevocationTime) || int(e.Reason) != want.ReasonCode {
			t.Fatalf("entry %d is %+v, want %+v", i, e, want)
		}
		found, ok := ours.Lookup(e.Serial, ours.Issuer)
		if !ok || !found.RevokedAt.Equal(e.RevokedAt) || found.Reason != e.Reason || !found.InvalidityAt.Equal(e.InvalidityAt) {
			t.Fatalf("look-up of entry %d gives %+v, %t", i, found, ok)
		}
		i++
	}
	if i != ours.Len() {
		t.Fatalf("%d entries walked of %d", i, ours.Len())
	}
	if _, ok := ours.Lookup([]byte{0x41, 1, 2, 3}, ours.Issuer); ok {
		t.Fatal("an absent serial is found")
	}
}

// TestOpenSSL has OpenSSL read, verify and show a list of ours.
func TestOpenSSL(t *testing.T) {
	ca := newAuthority(t, "OpenSSL CA", newKey(t))
	dir := t.TempDir()
	arena := filled(10)
	for _, c := range []struct {
		name   string
		change func(*crl.Template)
		want   []string
	}{
		{"shard", func(t *crl.Template) { t.URLs, t.UserCerts = []string{"http://crl.example/x.crl"}, true },
			[]string{"X509v3 Issuing Distribution Point: critical", "Only User Certificates", "URI:http://crl.example/x.crl", "Key Compromise", "Invalidity Date"}},
		{"base", func(t *crl.Template) { t.Freshest = []string{"http://crl.example/d.crl"} }, []string{"X509v3 Freshest CRL", "URI:http://crl.example/d.crl"}},
		{"delta", func(t *crl.Template) { t.Base = 5 }, []string{"X509v3 Delta CRL Indicator: critical"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			template := ca.template()
			c.change(&template)
			entries, _ := arena.At(10)
			der, _, err := signBytes(template, entries, ca.key)
			if err != nil {
				t.Fatal(err)
			}
			list, root := filepath.Join(dir, c.name+".crl"), filepath.Join(dir, "ca.pem")
			write(t, list, der)
			write(t, root, pemCertificate(ca.cert))
			text := openssl(t, "crl", "-inform", "DER", "-in", list, "-CAfile", root, "-text", "-noout")
			for _, want := range append(c.want, "verify OK", "X509v3 CRL Number") {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not show %q in\n%s", want, text)
				}
			}
		})
	}
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTemplateRefusals(t *testing.T) {
	ca := newAuthority(t, "Refusing CA", newKey(t))
	for name, change := range map[string]func(*crl.Template){
		"no issuer":              func(t *crl.Template) { t.Issuer = nil },
		"no key identifier":      func(t *crl.Template) { t.KeyID = nil },
		"number 0":               func(t *crl.Template) { t.Number = 0 },
		"base after number":      func(t *crl.Template) { t.Base = t.Number },
		"ends before it begins":  func(t *crl.Template) { t.NextUpdate = t.ThisUpdate },
		"delta points to deltas": func(t *crl.Template) { t.Base, t.Freshest = 1, []string{"http://x.example/"} },
	} {
		template := ca.template()
		change(&template)
		if _, _, err := template.Sign(nil, ca.key); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadLimit(t *testing.T) {
	ca := newAuthority(t, "Limit CA", newKey(t))
	template := ca.template()
	entries, _ := filled(20000).At(20000)
	der, _, err := signBytes(template, entries, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = crl.Read(bytes.NewReader(der), int64(len(der))-1)
	if limit, ok := errors.AsType[*crl.LimitError](err); !ok || limit.Limit != int64(len(der))-1 {
		t.Fatalf("error is %v", err)
	}
	broken := errors.New("line is dead")
	if _, err := crl.Read(iotest.ErrReader(broken), 100); !errors.Is(err, broken) {
		t.Fatalf("error is %v", err)
	}
	if _, err := crl.Read(bytes.NewReader(der[:len(der)-1]), 1<<30); !isParseError(err) {
		t.Fatalf("error is %v", err)
	}
	if _, err := crl.Read(bytes.NewReader(append(bytes.Clone(der), 0)), 1<<30); !isParseError(err) {
		t.Fatalf("error is %v", err)
	}
}

func isParseError(err error) bool {
	_, ok := errors.AsType[*crl.ParseError](err)
	return ok
}

// signBytes signs and copies the document into one piece.
func signBytes(template crl.Template, entries crl.Entries, key crypto.Signer) ([]byte, crl.Signature, error) {
	document, sig, err := template.Sign(entries, key)
	return document.Bytes(), sig, err
}

// TestDocument reads a document of pieces as one: through, in parts, and after seeking.
func TestDocument(t *testing.T) {
	d := crl.Document{[]byte("ab"), nil, []byte("c"), []byte("defg")}
	if err := iotest.TestReader(d.Reader(), []byte("abcdefg")); err != nil {
		t.Fatal(err)
	}
	if d.Size() != 7 || string(d.Bytes()) != "abcdefg" || d.Sum() != (crl.Document{[]byte("abcdefg")}).Sum() {
		t.Fatal("size, octets or sum differ")
	}
}
