package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ocsp"
)

// TestFetchFromAnywhere asks servers of other kinds for a list and a status: a person is told what came instead.
func TestFetchFromAnywhere(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Odd CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte("odd")}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	var squeezed bytes.Buffer
	writer := gzip.NewWriter(&squeezed)
	if _, err := writer.Write(list); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	const page = "<!DOCTYPE html><html><body>There is nothing here.</body></html>"
	bodies := map[string][]byte{
		"/list.crl": list, "/list.pem": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), "/page.crl": []byte(page),
		"/list.crl.gz": squeezed.Bytes(), "/empty.crl": nil, "/cut.crl": list[:100],
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := bodies[r.URL.Path]
		switch {
		case ok:
			w.Header().Set("Content-Type", "text/plain") // whatever it is
			_, _ = w.Write(body)                         // a client that has gone is noticed below
		case r.URL.Path == "/moved.crl":
			http.Redirect(w, r, "/list.crl", http.StatusMovedPermanently)
		case r.URL.Path == "/round.crl":
			http.Redirect(w, r, "/round.crl", http.StatusFound)
		case r.URL.Path == "/broken.crl":
			w.WriteHeader(http.StatusInternalServerError)
		case r.URL.Path == "/closed.crl":
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/post") && r.Method == http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.URL.Path == "/post":
			asked, err := io.ReadAll(r.Body)
			if _, parse := ocsp.ParseRequest(asked); err != nil || parse != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
				t.Errorf("by POST: %v, %v", err, parse)
			}
			_, _ = w.Write([]byte{0x30, 3, 0x0a, 1, 6}) // unauthorized
		case strings.HasPrefix(r.URL.Path, "/busy"):
			if r.Method == http.MethodPost {
				t.Error("a responder that is busy was asked again by POST")
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/page/"):
			_, _ = w.Write([]byte(page)) // as above
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(page)) // as above
		}
	}))
	t.Cleanup(server.Close)
	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(foreign.Close)

	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		CRLDistributionPoints: []string{"ldap://directory.example/cn=x?certificateRevocationList", server.URL + "/list.crl"},
		OCSPServer:            []string{server.URL + "/page"}}
	many := *leaf
	many.CRLDistributionPoints = []string{"http://127.0.0.1:1/list.crl", server.URL + "/gone.crl", server.URL + "/page.crl", server.URL + "/list.crl", server.URL + "/round.crl"}
	many.OCSPServer = []string{server.URL + "/busy", server.URL + "/page", server.URL + "/post"}
	dead := *leaf
	dead.CRLDistributionPoints, dead.OCSPServer = []string{server.URL + "/broken.crl", server.URL + "/gone.crl"}, []string{server.URL + "/page", server.URL + "/busy"}
	directory := *leaf
	directory.CRLDistributionPoints, directory.OCSPServer = leaf.CRLDistributionPoints[:1], nil
	dir := t.TempDir()
	for name, template := range map[string]*x509.Certificate{"leaf.pem": leaf, "directory.pem": &directory, "many.pem": &many, "dead.pem": &dead} {
		var chain []byte
		for _, c := range []*x509.Certificate{template, ca} {
			der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), chain, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args   string
		status int
		says   string
	}{
		{"crl fetch @/list.crl --out a.crl", 0, "number     7"},
		{"crl fetch @/list.pem --out b.crl", 0, "number     7"},
		{"crl fetch @/moved.crl --out c.crl", 0, "number     7"},
		{"crl fetch leaf.pem --out d.crl", 0, "number     7"},
		{"crl fetch many.pem --out f.crl", 0, "number     7"},
		{"crl fetch many.pem --out f.crl", 0, `note: fetch CRL: fetch "http://127.0.0.1:1/list.crl": network`},
		{"crl fetch many.pem --out f.crl", 0, "tag 0x3c where 0x30 should be; asking @/list.crl"},
		{"crl fetch dead.pem --out e.crl", 4, "check the address"},
		{"crl fetch @/page.crl --out e.crl", 2, "is not a CRL, but a web page"},
		{"crl fetch @/list.crl.gz --out e.crl", 2, "is not a CRL, but compressed (gzip)"},
		{"crl fetch @/empty.crl --out e.crl", 2, "is not a CRL, but empty"},
		{"crl fetch @/cut.crl --out e.crl", 2, "is not a CRL: parse revocation list"},
		{"crl fetch @/gone.crl --out e.crl", 4, "check the address"},
		{"crl fetch @/broken.crl --out e.crl", 7, "the server is up, but busy or in trouble (500 Internal Server Error)"},
		{"crl fetch @/closed.crl --out e.crl", 3, "the server is up, but refuses the request (403 Forbidden)"},
		{"crl fetch http://127.0.0.1:1/list.crl --out e.crl", 7, "is http://127.0.0.1:1 up, and can it be reached from here?"},
		{"crl fetch " + foreign.URL + "/list.crl --out e.crl", 7, "served over plain http: the address is in the certificate"},
		{"crl fetch @/round.crl --out e.crl", 7, "redirects"},
		{"crl fetch directory.pem --out e.crl", 4, "names no CRL by HTTP, but ldap://directory.example"},
		{"ocsp query leaf.pem", 2, "is not an OCSP response, but a web page"},
		{"ocsp query leaf.pem --url @/list.crl/", 4, "check the address"},
		{"ocsp query leaf.pem --url @/post", 10, "it does not answer for this issuer"},
		{"ocsp query leaf.pem --url @/poster", 4, "check the address"},
		{"ocsp query leaf.pem --url @/busy", 7, "(503 Service Unavailable)"},
		{"ocsp query many.pem", 10, "responder  @/post"},
		{"ocsp query dead.pem", 7, "(503 Service Unavailable)"},
		{"ocsp query directory.pem", 4, "name one with --url"},
	} {
		command := exec.CommandContext(t.Context(), "signet", strings.Fields(strings.ReplaceAll(test.args, "@", server.URL))...)
		command.Dir = dir
		out, err := command.CombinedOutput()
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != test.status || !strings.Contains(string(out), strings.ReplaceAll(test.says, "@", server.URL)) {
			t.Errorf("signet %s ended with %d, want %d and %q:\n%s", test.args, status, test.status, test.says, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "e.crl")); err == nil {
		t.Error("something that is no list was written")
	}
}
