package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACertificateIsWhatTheProfileSays(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		key := newKey(t)
		issued := w.mustIssue(ca.Request{Profile: "server", CSR: csrOf(t, key, &x509.CertificateRequest{
			DNSNames: []string{"www.example.com", "example.com"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1).To4()}})})
		c := parse(t, issued.DER)
		shard := issued.Position.Shard()
		for what, pair := range map[string][2]any{
			"serial":    {c.SerialNumber.Text(16), issued.Serial.String()},
			"names":     {fmt.Sprint(c.DNSNames, c.IPAddresses), "[www.example.com example.com] [10.0.0.1]"},
			"issuer":    {c.Issuer.String(), "CN=Test Issuing CA"},
			"subject":   {c.Subject.String(), ""},
			"crl":       {fmt.Sprint(c.CRLDistributionPoints), fmt.Sprintf("[http://pki.test/crl/%s/%s.crl]", w.issuing.ID, shard)},
			"ocsp":      {fmt.Sprint(c.OCSPServer), fmt.Sprintf("[http://pki.test/ocsp/%s]", w.issuing.ID)},
			"aia":       {fmt.Sprint(c.IssuingCertificateURL), fmt.Sprintf("[http://pki.test/issuers/%s.cer]", w.issuing.ID)},
			"usage":     {c.KeyUsage, x509.KeyUsageDigitalSignature},
			"ext usage": {fmt.Sprint(c.ExtKeyUsage), fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})},
			"begin":     {c.NotBefore, w.clock.Now().Add(-time.Hour)},
			"end":       {c.NotAfter, w.clock.Now().Add(90*24*time.Hour - time.Second)},
			"ca":        {c.IsCA, false},
			"key":       {c.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()), true},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
			}
		}
		position, ok := issued.Serial.Index(w.issuing.KeyHash, c.NotAfter.Unix())
		if !ok || position != issued.Position || position.Index != 0 {
			t.Errorf("the serial says %v (%v), the books %v", position, ok, issued.Position)
		}
		read, err := w.Get(t.Context(), w.grant(web, auth.ActionRead, "web"), w.issuing.ID, issued.Serial)
		if err != nil || !bytes.Equal(read.DER, issued.DER) {
			t.Errorf("the inventory has something else: %v", err)
		}
		if _, err := w.Get(t.Context(), w.grant(auth.Principal{Account: "other", Role: auth.RoleRequester}, auth.ActionRead, "other"), w.issuing.ID, issued.Serial); pki.KindOf(err) != pki.KindNotFound {
			t.Errorf("another account reads it: %v", err)
		}
	})
}

func TestOpenSSLVerifiesEveryKindOfIssuerAndProfile(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	names := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Signer"}, DNSNames: []string{"a.example.com"}}
	mail := &x509.CertificateRequest{EmailAddresses: []string{"a@example.com"}}
	signer := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Signer"}}
	issuers := []ca.Issuer{w.issuing}
	for i, algorithm := range algorithms {
		issuers = append(issuers, w.create(ca.NewIssuer{Label: fmt.Sprintf("issuing-%d", i), Algorithm: algorithm, Parent: w.root.ID, BaseURL: "http://pki.test",
			Subject: ca.Subject{CommonName: fmt.Sprintf("Issuing %s", algorithm)}}))
	}
	dir := t.TempDir()
	root := writePEM(t, dir, "root.pem", w.root.Certificates[0].DER)
	for _, issuer := range issuers {
		for profile, template := range map[string]*x509.CertificateRequest{
			"server": names, "client": names, "server-client": names, "short-lived": names, "email": mail, "code-signing": signer,
		} {
			for keyName, request := range map[string][]byte{"ecdsa": csrOf(t, newKey(t), template), "rsa": csrOf(t, rsaKey, template)} {
				t.Run(issuer.Label+"/"+profile+"/"+keyName, func(t *testing.T) {
					issued, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, profile), ca.Request{Profile: profile, Issuer: issuer.ID, CSR: request})
					if err != nil {
						t.Fatal(err)
					}
					leaf, chain := writePEM(t, t.TempDir(), "leaf.pem", issued.DER), writePEM(t, t.TempDir(), "chain.pem", issued.Chain...)
					if out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", chain, leaf).CombinedOutput(); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
		}
	}
	for _, args := range [][]string{{"x509", "-in", root, "-noout", "-text"}, {"verify", "-x509_strict", "-CAfile", root, root}} {
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Errorf("openssl %v: %v: %s", args, err, out)
		}
	}
	bundle := filepath.Join(dir, "issuer.p7c")
	if err := os.WriteFile(bundle, w.issuing.CertificatesFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "pkcs7", "-inform", "DER", "-in", bundle, "-print_certs").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Test Issuing CA") {
		t.Errorf("the .p7c file: %v: %s", err, out)
	}
}

func writePEM(t *testing.T, dir, name string, certificates ...[]byte) string {
	t.Helper()
	var text []byte
	for _, der := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// extension adds one raw extension to a request.
func extension(oid asn1.ObjectIdentifier, value []byte) *x509.CertificateRequest {
	return &x509.CertificateRequest{DNSNames: []string{"a.example.com"}, ExtraExtensions: []pkix.Extension{{Id: oid, Value: value}}}
}

func mustMarshal(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Every bad request is refused with the kind and field at fault, releases nothing, uses up no index, and is in the log.
func TestBadRequests(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	key := newKey(t)
	good := csr(t, key, "a.example.com")
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("n%d.example.com", i))
	}
	eku := func(oids ...asn1.ObjectIdentifier) []byte {
		return csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 37}, mustMarshal(t, oids)))
	}
	ids := func(texts ...string) (all []pki.Identifier) {
		for _, text := range texts {
			all = append(all, pki.Identifier{Type: pki.DNS, Value: text})
		}
		return all
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		request ca.Request
		kind    pki.Kind
		field   string
	}{
		{"nothing", ca.Request{Profile: "server"}, pki.KindInvalid, "csr"},
		{"no such profile", ca.Request{Profile: "nothing", CSR: good}, pki.KindNotFound, "profile"},
		{"garbage", ca.Request{Profile: "server", CSR: []byte("garbage")}, pki.KindInvalid, "csr"},
		{"something behind it", ca.Request{Profile: "server", CSR: append(bytes.Clone(good), 0)}, pki.KindInvalid, "csr"},
		{"a forged signature", ca.Request{Profile: "server", CSR: forged}, pki.KindInvalid, "csr"},
		{"a megabyte", ca.Request{Profile: "server", CSR: make([]byte, 1<<20)}, pki.KindInvalid, "csr"},
		{"10,000 names", ca.Request{Profile: "server", CSR: csr(t, key, many...)}, pki.KindInvalid, "csr"},
		{"10,000 names beside the CSR", ca.Request{Profile: "server", CSR: good, Names: ids(many...)}, pki.KindInvalid, "identifiers"},
		{"101 names", ca.Request{Profile: "server", CSR: csr(t, key, many[:101]...)}, pki.KindRefused, "identifiers"},
		{"CA:TRUE", ca.Request{Profile: "server", CSR: csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff}))}, pki.KindRefused, "csr"},
		{"basicConstraints that cannot be read", ca.Request{Profile: "server", CSR: csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 9, 1, 1, 0xff}))}, pki.KindRefused, "csr"},
		{"OCSP signing", ca.Request{Profile: "server", CSR: eku(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9})}, pki.KindRefused, "csr"},
		{"code signing", ca.Request{Profile: "server", CSR: eku(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})}, pki.KindRefused, "csr"},
		{"usages and something behind them", ca.Request{Profile: "server", CSR: csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 37}, append(mustMarshal(t, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}}), 5, 0)))}, pki.KindRefused, "csr"},
		{"basicConstraints and something behind them", ca.Request{Profile: "server", CSR: csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 0, 5, 0}))}, pki.KindRefused, "csr"},
		{"a lifetime below none", ca.Request{Profile: "server", CSR: good, Lifetime: -time.Hour}, pki.KindInvalid, "lifetime"},
		{"a request id of 129", ca.Request{Profile: "server", CSR: good, RequestID: strings.Repeat("a", 129)}, pki.KindInvalid, "request_id"},
		{"a request id beyond ASCII", ca.Request{Profile: "server", CSR: good, RequestID: "\u00e9"}, pki.KindInvalid, "request_id"},
		{"time stamping", ca.Request{Profile: "server", CSR: eku(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8})}, pki.KindRefused, "csr"},
		{"any usage", ca.Request{Profile: "server", CSR: eku(asn1.ObjectIdentifier{2, 5, 29, 37, 0})}, pki.KindRefused, "csr"},
		{"ocsp-nocheck", ca.Request{Profile: "server", CSR: csrOf(t, key, extension(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, []byte{5, 0}))}, pki.KindRefused, "csr"},
		{"no name", ca.Request{Profile: "server", CSR: csr(t, key)}, pki.KindRefused, "identifiers"},
		{"NUL in a name", ca.Request{Profile: "server", CSR: csr(t, key, "a.example.com\x00.evil.example")}, pki.KindInvalid, "csr"},
		{"space in a name", ca.Request{Profile: "server", CSR: csr(t, key, "a example.com")}, pki.KindInvalid, "csr"},
		{"two cases of one name", ca.Request{Profile: "server", CSR: csr(t, key, "a.example.com", "A.Example.COM")}, pki.KindRefused, "identifiers[1]"},
		{"an address as DNS name", ca.Request{Profile: "server", CSR: csr(t, key, "10.0.0.1")}, pki.KindInvalid, "csr"},
		{"a name that is not canonical", ca.Request{Profile: "server", CSR: good, Names: ids("A.example.com")}, pki.KindInvalid, "identifiers[0]"},
		{"a U-label beside its A-label", ca.Request{Profile: "server", CSR: good, Names: ids("xn--bcher-kva.example", "bücher.example")}, pki.KindInvalid, "identifiers[1]"},
		{"a type the profile has not", ca.Request{Profile: "server", CSR: csrOf(t, key, &x509.CertificateRequest{EmailAddresses: []string{"a@example.com"}})}, pki.KindRefused, "identifiers[0]"},
		{"RSA with e = 1", ca.Request{Profile: "server", CSR: rsaRequest(t, 1)}, pki.KindRefused, "csr"},
		{"RSA with e = 3", ca.Request{Profile: "server", CSR: rsaRequest(t, 3)}, pki.KindRefused, "csr"},
		{"a point off the curve", ca.Request{Profile: "server", CSR: offCurve(t, good)}, pki.KindInvalid, "csr"},
		{"P-224", ca.Request{Profile: "server", CSR: csr(t, p224, "a.example.com")}, pki.KindRefused, "csr"},
		{"too long", ca.Request{Profile: "server", CSR: good, Lifetime: 400 * 24 * time.Hour}, pki.KindRefused, "lifetime"},
		{"already over", ca.Request{Profile: "server", CSR: good, NotAfter: w.clock.Now().Add(-time.Second)}, pki.KindRefused, "not_after"},
		{"both ends", ca.Request{Profile: "server", CSR: good, NotAfter: w.clock.Now(), Lifetime: time.Hour}, pki.KindInvalid, "not_after"},
		{"an unknown issuer", ca.Request{Profile: "server", CSR: good, Issuer: pki.IssuerID{1}}, pki.KindNotFound, "issuer"},
		{"an organization nobody takes", ca.Request{Profile: "server", CSR: good, Subject: ca.Subject{Organization: []string{"Example"}}}, pki.KindRefused, "subject.organization"},
		{"a common name that reads as another host", ca.Request{Profile: "client", CSR: good, Subject: ca.Subject{CommonName: "www.other.example"}}, pki.KindRefused, "subject.common_name"},
		{"17 units", ca.Request{Profile: "client", CSR: good, Subject: ca.Subject{OrganizationalUnit: many[:17]}}, pki.KindRefused, "subject.organizational_unit"},
		{"a request id with a space", ca.Request{Profile: "server", CSR: good, RequestID: "a b"}, pki.KindInvalid, "request_id"},
		{"a CA for a requester", ca.Request{Profile: "sub-ca", CSR: good}, pki.KindDenied, "profile"},
		{"Signet's own profile", ca.Request{Profile: "ocsp-responder", CSR: good}, pki.KindDenied, "profile"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := auditHead(t, w.store)
			issued, err := w.issue(w.Authority, test.request)
			e, ok := err.(*pki.Error)
			if issued != nil || !ok || e.Kind != test.kind || e.Field != test.field {
				t.Errorf("got %v, %v; want %s of %q", issued, err, test.kind, test.field)
			}
			events, err := w.store.AuditEvents(t.Context(), audit.Filter{}, before, 10)
			if err != nil || len(events) != 1 || events[0].Outcome != audit.Refused || events[0].Actor != web.ID {
				t.Errorf("the log has %+v (%v)", events, err)
			}
		})
	}
	if issued := w.mustIssue(server(t, "first.example.com")); issued.Position.Index != 0 {
		t.Errorf("refusals used up %d indices", issued.Position.Index)
	}
	// What the profile gives may be asked for.
	nameless := extension(asn1.ObjectIdentifier{2, 5, 29, 37}, mustMarshal(t, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}}))
	nameless.DNSNames = nil
	if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "code-signing"), ca.Request{Profile: "code-signing", CSR: csrOf(t, key, nameless), Subject: ca.Subject{CommonName: "Signer"}}); err != nil {
		t.Errorf("code signing under its profile: %v", err)
	}
}

func auditHead(t testing.TB, s store.Store) uint64 {
	t.Helper()
	head, err := s.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head.Seq
}

// rsaRequest is a request whose key has a small exponent; the signature is of no matter.
func rsaRequest(t *testing.T, exponent int) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := csr(t, key, "a.example.com")
	plain, small := mustMarshal(t, key.PublicKey), mustMarshal(t, rsa.PublicKey{N: key.N, E: exponent})
	// The same length: the exponent 65537 takes three octets, so the small one is padded by a larger modulus.
	padded := mustMarshal(t, struct {
		N, E *big.Int
	}{new(big.Int).SetBit(new(big.Int).Lsh(key.N, 16), 0, 1), big.NewInt(int64(exponent))})
	if len(padded) != len(plain) {
		t.Fatalf("%d octets, want %d (%d)", len(padded), len(plain), len(small))
	}
	return bytes.Replace(der, plain, padded, 1)
}

// offCurve changes the point of a request's P-256 key.
func offCurve(t *testing.T, der []byte) []byte {
	t.Helper()
	changed := bytes.Clone(der)
	at := bytes.Index(changed, []byte("\x03\x42\x00\x04"))
	if at < 0 {
		t.Fatal("no P-256 key")
	}
	changed[at+40] ^= 1
	return changed
}
