package server_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/server"
	"signet.example/signet/ocsp"
)

// TestAnswersOfAnIssuer asks about a certificate of an issuer that has a lifetime and a mode for nonces of its own, and
// about one of an issuer that has not; a label that no issuer has is told of in the log.
func TestAnswersOfAnIssuer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		config := filepath.Join(s.dir, "signet.yaml")
		usual, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		own := "\nocsp:\n  issuers:\n    issuing: {lifetime: 3h, nonce: live}\n    isuing: {nonce: live}\n"
		if err := os.WriteFile(config, slices.Concat(usual, []byte(own)), 0o600); err != nil {
			t.Fatal(err)
		}
		log := &syncBuffer{}
		runInstance(t, s.config(t), server.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		eventually(t, "it is ready", s.ready)
		parse := func(der []byte) *x509.Certificate {
			t.Helper()
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return certificate
		}
		root, issuing := parse(s.issuerCalled(t, "root").Certificates[0]), parse(s.issuerCalled(t, "issuing").Certificates[0])
		leaf := parse(s.issue(t, "app.example").DER)
		for _, test := range []struct {
			what                string
			certificate, issuer *x509.Certificate
			lifetime            time.Duration
			live                bool
		}{{"a leaf", leaf, issuing, 3 * time.Hour, true}, {"the issuer", issuing, root, time.Hour, false}} {
			issuer, err := ocsp.IssuerOf(test.issuer)
			if err != nil {
				t.Fatal(err)
			}
			serial, err := ocsp.SerialOf(test.certificate)
			if err != nil {
				t.Fatal(err)
			}
			request := ocsp.NewRequest(issuer.CertID(crypto.SHA256, serial))
			request.Nonce = bytes.Repeat([]byte{7}, ocsp.RequesterNonce)
			body, err := request.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.Post(test.certificate.OCSPServer[0], "application/ocsp-request", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			der, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			said, err := ocsp.Verify(der, ocsp.Query{Certificate: test.certificate, Issuers: []*x509.Certificate{test.issuer}, Time: time.Now(), Skew: time.Minute})
			if err != nil || said.NextUpdate.Sub(said.ThisUpdate) != test.lifetime {
				t.Errorf("%s: from %s until %s, %v; want %s", test.what, said.ThisUpdate, said.NextUpdate, err, test.lifetime)
			}
			response, err := ocsp.ParseResponse(der)
			if err != nil || bytes.Equal(response.Nonce, request.Nonce) != test.live {
				t.Errorf("%s: nonce %x, %v; want it echoed: %t", test.what, response.Nonce, err, test.live)
			}
		}
		if said := log.String(); strings.Count(said, "names an issuer that is not there") != 1 || !strings.Contains(said, "issuer=isuing") {
			t.Errorf("the log does not tell of a label that no issuer has, or of others too:\n%s", said)
		}
	})
}
