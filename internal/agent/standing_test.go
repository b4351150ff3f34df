package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/agent"
)

// A responder that does not tell how a certificate stands is no reason to do anything, and is not asked again for every certificate.
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
	a := agent.New(*config, func() time.Time { return now }, func(s agent.Status, err error) { t.Errorf("it said %+v, %v", s, err) })
	for look := int64(1); look <= 2; look++ {
		all, err := a.Once(t.Context())
		if err != nil || len(all) != 2 || all[0].Standing != "unknown" || all[1].Standing != "unknown" || asked.Load() != look {
			t.Fatalf("look %d, asked %d times: %+v, %v", look, asked.Load(), all, err)
		}
		now = now.Add(5 * time.Minute)
	}
}
