package agent_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/internal/agent"
)

// A responder that gives no status is no reason to do anything, and is not asked again for every certificate.
func TestNobodyTellsHowItStands(t *testing.T) {
	var asked atomic.Int64
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer responder.Close()
	dir, now := t.TempDir(), time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"a.example"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour),
		OCSPServer: []string{responder.URL}, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	text := "server: 127.0.0.1:1\nroot: root.pem\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example]}\n  - {certificate: b.pem, key: b.key, names: [a.example]}\n"
	for name, text := range map[string][]byte{"root.pem": certificate, "a.pem": certificate, "b.pem": certificate, "a.key": keyPEM, "b.key": keyPEM, "agent.yaml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := agent.LoadConfig(filepath.Join(dir, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, *config, func() time.Time { return now }, func(s agent.Status, err error) { t.Errorf("it said %+v, %v", s, err) })
	for look := int64(1); look <= 2; look++ {
		all, err := a.Once(t.Context())
		if err != nil || len(all) != 2 || all[0].Standing != "unknown" || all[1].Standing != "unknown" || asked.Load() != look {
			t.Fatalf("look %d, asked %d times: %+v, %v", look, asked.Load(), all, err)
		}
		now = now.Add(5 * time.Minute)
	}
}

// signed makes a certificate of an authority, or of a.example that names a responder.
func signed(t *testing.T, name string, above *x509.Certificate, key, by *ecdsa.PrivateKey, responder string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true}
	if responder != "" {
		template.IsCA, template.DNSNames, template.OCSPServer = false, []string{"a.example"}, []string{responder}
	}
	if above == nil {
		above = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// ofVersion1 returns the certificate as version 1, which does not say whether it is a CA.
func ofVersion1(t *testing.T, c *x509.Certificate, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	algorithm := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}} // ecdsa-with-SHA256
	tbs, err := asn1.Marshal(struct {
		Serial    *big.Int
		Algorithm pkix.AlgorithmIdentifier
		Issuer    asn1.RawValue
		Validity  struct{ NotBefore, NotAfter time.Time }
		Subject   asn1.RawValue
		Key       asn1.RawValue
	}{c.SerialNumber, algorithm, asn1.RawValue{FullBytes: c.RawIssuer}, struct{ NotBefore, NotAfter time.Time }{c.NotBefore, c.NotAfter},
		asn1.RawValue{FullBytes: c.RawSubject}, asn1.RawValue{FullBytes: c.RawSubjectPublicKeyInfo}})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := by.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil || made.Version != 1 {
		t.Fatalf("version %d, %v", made.Version, err)
	}
	return made
}

// The responder that a certificate names is asked if the certificate chains to the roots; no host it redirects to is
// asked. That none is asked is reported once.
func TestWhoIsAsked(t *testing.T) {
	var keys [4]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	var asked, elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer responder.Close()
	// root -> middle -> issuing -> leaf
	root := signed(t, "root", nil, keys[0], keys[0], "")
	middle := signed(t, "middle", root, keys[1], keys[0], "")
	issuing := signed(t, "issuing", middle, keys[2], keys[1], "")
	leaf := signed(t, "leaf", issuing, keys[3], keys[2], responder.URL)
	stranger := signed(t, "root", nil, keys[3], keys[3], "")
	subscriber := ofVersion1(t, issuing, keys[1])
	within := func(from, to time.Duration) *x509.Certificate { // the issuing authority, valid at another time
		template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: issuing.Subject, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to), BasicConstraintsValid: true, IsCA: true}
		der, err := x509.CreateCertificate(rand.Reader, template, middle, keys[2].Public(), keys[1])
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(keys[3])
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		root  *x509.Certificate
		file  []*x509.Certificate
		asked int64
	}{
		{"it chains to the root", root, []*x509.Certificate{leaf, issuing, middle}, 1},
		{"the issuer is the root", issuing, []*x509.Certificate{leaf}, 1},
		{"the chain has a gap", root, []*x509.Certificate{leaf, issuing}, 0},
		{"the chain is in no order", root, []*x509.Certificate{leaf, middle, root, issuing}, 1},
		{"it chains to another root", stranger, []*x509.Certificate{leaf, issuing, middle, root}, 0},
		{"its issuer has ended", root, []*x509.Certificate{leaf, within(-2*time.Hour, -time.Hour), middle}, 0},
		{"its issuer is for later", root, []*x509.Certificate{leaf, within(time.Hour, 2*time.Hour), middle}, 0},
		{"its issuer is a root that has ended", within(-2*time.Hour, -time.Hour), []*x509.Certificate{leaf}, 0},
		{"its issuer has another name", root, []*x509.Certificate{leaf, signed(t, "other", middle, keys[2], keys[1], ""), middle}, 0},
		{"its issuer is nobody's authority", root, []*x509.Certificate{leaf, subscriber, middle}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked.Store(0)
			dir := t.TempDir()
			var chain []byte
			for _, c := range tc.file {
				chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			}
			for name, text := range map[string][]byte{
				"a.pem": chain, "root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tc.root.Raw}), "a.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
				"agent.yaml": []byte("server: 127.0.0.1:1\nroot: root.pem\ncertificates: [{certificate: a.pem, key: a.key, names: [a.example]}]\n"),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			config, err := agent.LoadConfig(filepath.Join(dir, "agent.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			now, said := time.Now(), int64(0)
			a := newAgent(t, *config, func() time.Time { return now }, func(s agent.Status, err error) {
				said++
				if s.Certificate != config.Certificates[0].Files.Certificate || !strings.Contains(err.Error(), "no authority in force leads from it to "+config.Root) {
					t.Errorf("it said %+v, %v", s, err)
				}
			})
			for look := int64(1); look <= 2; look++ {
				all, err := a.Once(t.Context())
				if err != nil || all[0].Standing != "unknown" || asked.Load() != look*tc.asked || elsewhere.Load() != 0 || said != 1-tc.asked {
					t.Errorf("look %d: the responder was asked %d times, want %d; another %d times; %d times it was said that nobody is: %+v, %v", look, asked.Load(), look*tc.asked, elsewhere.Load(), said, all, err)
				}
				now = now.Add(5 * time.Minute)
			}
		})
	}
}

// placed writes files, among them agent.yaml, and loads that configuration.
func placed(t *testing.T, dir string, files map[string][]byte) *agent.Config {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := agent.LoadConfig(filepath.Join(dir, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func certificatePEM(all ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range all {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// digest returns the digest of the certificate in a file.
func digest(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	return sha256.Sum256(block.Bytes)
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// saysRevoked answers as the responder of an authority does.
func saysRevoked(t *testing.T, w http.ResponseWriter, issuer *x509.Certificate, key *ecdsa.PrivateKey, leaf *x509.Certificate, reason int) {
	answer, err := xocsp.CreateResponse(issuer, issuer, xocsp.Response{Status: xocsp.Revoked, RevocationReason: reason, RevokedAt: issuer.NotBefore, SerialNumber: leaf.SerialNumber,
		ThisUpdate: issuer.NotBefore, NextUpdate: issuer.NotAfter}, key)
	if err != nil {
		t.Error(err)
	}
	_, _ = w.Write(answer)
}

// The responder is asked at every look, whatever else is wrong. Its answer is reported beside the other error, and
// acted upon.
func TestTheResponderIsAskedWhateverElseIsWrong(t *testing.T) {
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	const request = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
	own, other := append(keyPEM(t, keys[1]), request...), append(keyPEM(t, keys[2]), request...)
	for _, tc := range []struct {
		name   string
		reason int // -1: the responder does not answer
		token  string
		spoil  func(key string) error // what else is wrong
		want   []string               // in the error
		next   bool                   // there is a request for a new key
	}{
		{"a hook fails", -1, "token_file: token\n", func(key string) error { return os.WriteFile(key+".next", own, 0o600) }, []string{"run hook"}, false},
		{"a hook fails, and nothing allows another", xocsp.KeyCompromise, "", func(key string) error { return os.WriteFile(key+".next", own, 0o600) }, []string{"is revoked (keyCompromise)", "run hook"}, false},
		{"a hook fails, and it was taken away on purpose", xocsp.CessationOfOperation, "token_file: token\n", func(key string) error { return os.WriteFile(key+".next", own, 0o600) }, []string{"is revoked (cessationOfOperation)", "run hook"}, false},
		{"a hook fails, and another is to be had", xocsp.KeyCompromise, "token_file: token\n", func(key string) error { return os.WriteFile(key+".next", own, 0o600) }, []string{"the server was not reached"}, true},
		{"what is unfinished is readable by others", xocsp.Superseded, "token_file: token\n", func(key string) error { return os.WriteFile(key+".next", other, 0o640) }, []string{"is revoked (superseded)", "read unfinished renewal"}, false},
		{"the key does not parse", xocsp.Superseded, "token_file: token\n", func(key string) error { return os.WriteFile(key, []byte("nothing"), 0o600) }, []string{"is revoked (superseded)", "read private key"}, false},
		{"nothing, but that it was installed just now", xocsp.CessationOfOperation, "token_file: token\n", func(key string) error {
			return errors.Join(os.WriteFile(key+".next", own, 0o600), os.WriteFile(key+".heard", nil, 0o600))
		}, []string{"is revoked (cessationOfOperation)"}, false},
		{"the key is gone", xocsp.CessationOfOperation, "token_file: token\n", os.Remove, []string{"is revoked (cessationOfOperation)", "there is no file"}, false},
		{"the key is gone, and another is to be had", xocsp.Superseded, "token_file: token\n", os.Remove, []string{"the server was not reached"}, true},
		{"the key is gone, and lost, and a request for it is under way", xocsp.KeyCompromise, "token_file: token\n", func(key string) error {
			text := fmt.Appendf(keyPEM(t, keys[1]), "-----BEGIN CERTIFICATE REQUEST-----\nReplaces: %x\n\nMAA=\n-----END CERTIFICATE REQUEST-----\n", digest(t, strings.TrimSuffix(key, ".key")+".pem"))
			return errors.Join(os.WriteFile(key+".next", text, 0o600), os.Remove(key))
		}, []string{"the server was not reached"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked atomic.Int64
			now := time.Now()
			var root, leaf *x509.Certificate
			responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				if tc.reason < 0 {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				saysRevoked(t, w, root, keys[0], leaf, tc.reason)
			}))
			defer responder.Close()
			root = signed(t, "root", nil, keys[0], keys[0], "")
			leaf = signed(t, "leaf", root, keys[1], keys[0], responder.URL)
			dir := t.TempDir()
			config := placed(t, dir, map[string][]byte{
				"a.pem": certificatePEM(leaf), "root.pem": certificatePEM(root), "a.key": keyPEM(t, keys[1]), "token": []byte("secret"),
				"agent.yaml": []byte("server: 127.0.0.1:1\nroot: root.pem\n" + tc.token + "certificates: [{certificate: a.pem, key: a.key, names: [a.example], profile: server, hook: [sh, -c, 'test -e \"$SIGNET_KEY.heard\"']}]\n"),
			})
			if err := tc.spoil(filepath.Join(dir, "a.key")); err != nil {
				t.Fatal(err)
			}
			a := newAgent(t, *config, func() time.Time { return now }, func(agent.Status, error) {})
			standing := "revoked"
			if tc.reason < 0 {
				standing = "unknown"
			}
			for look := int64(1); look <= 3; look++ {
				all, err := a.Once(t.Context())
				if err == nil || all[0].Standing != standing || asked.Load() != look {
					t.Fatalf("look %d, asked %d times: %+v, %v", look, asked.Load(), all, err)
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) || !strings.Contains(all[0].Error, want) {
						t.Errorf("look %d does not say %q: %v", look, want, err)
					}
				}
				now = now.Add(2 * time.Hour)
			}
			next, err := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}.Next()
			if isNew := err == nil && next != nil && !keys[1].Public().(*ecdsa.PublicKey).Equal(next.Public()); isNew != tc.next {
				t.Errorf("a request for a new key: %t, %v", isNew, err)
			}
		})
	}
}

// A relying party that uses crypto/x509 refuses an authority with a critical extension that it does not process. The
// responder that the authority's certificates name is asked nevertheless.
func TestBelowAnAuthorityWithACriticalExtension(t *testing.T) {
	for what, extension := range map[string]pkix.Extension{
		"names of directories": {Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: []byte("\x30\x08\xa0\x06\x30\x04\xa4\x02\x30\x00")},
		"policies":             {Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte("\x30\x03\x80\x01\x00")},
	} {
		t.Run(what, func(t *testing.T) {
			var keys [3]*ecdsa.PrivateKey
			for i := range keys {
				var err error
				if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
					t.Fatal(err)
				}
			}
			root := signed(t, "root", nil, keys[0], keys[0], "")
			template := &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "issuing"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
				BasicConstraintsValid: true, IsCA: true, ExtraExtensions: []pkix.Extension{extension}}
			der, err := x509.CreateCertificate(rand.Reader, template, root, keys[1].Public(), keys[0])
			if err != nil {
				t.Fatal(err)
			}
			issuing, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			var leaf *x509.Certificate
			responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				saysRevoked(t, w, issuing, keys[1], leaf, xocsp.Superseded)
			}))
			defer responder.Close()
			leaf = signed(t, "leaf", issuing, keys[2], keys[1], responder.URL)
			config := placed(t, t.TempDir(), map[string][]byte{"a.pem": certificatePEM(leaf, issuing), "root.pem": certificatePEM(root), "a.key": keyPEM(t, keys[2]),
				"agent.yaml": []byte("server: 127.0.0.1:1\nroot: root.pem\ncertificates: [{certificate: a.pem, key: a.key, names: [a.example]}]\n")})
			all, err := newAgent(t, *config, time.Now, func(agent.Status, error) {}).Once(t.Context())
			if err == nil || !strings.Contains(err.Error(), "is revoked (superseded)") || all[0].Standing != "revoked" {
				t.Errorf("it stands as %q: %v", all[0].Standing, err)
			}
		})
	}
}
