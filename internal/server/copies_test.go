package server_test

import (
	"bytes"
	"crypto/x509"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/internal/testbucket"
	"signet.example/signet/pki"
)

// TestCopies: a directory and a bucket that are configured have a list as it is served, under the path that certificates name.
func TestCopies(t *testing.T) {
	t.Parallel()
	b, _ := testbucket.New(t)
	endpoint := httptest.NewServer(b)
	t.Cleanup(endpoint.Close)
	s := found(t, "sqlite:signet.db")
	s.env = []string{"SIGNET_CRL_DIRECTORY=copies", "SIGNET_CRL_S3_ENDPOINT=" + endpoint.URL, "SIGNET_CRL_S3_BUCKET=lists", "SIGNET_CRL_S3_PREFIX=own/",
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret"}
	s.start(t)
	leaf := s.issue(t, "copied.example")
	s.revoke(t, leaf, pki.Superseded)
	certificate, err := x509.ParseCertificate(leaf.DER)
	if err != nil {
		t.Fatal(err)
	}
	url := certificate.CRLDistributionPoints[0]
	served, path := get(t, url), strings.TrimPrefix(url, "http://"+s.addresses.Public+"/")
	eventually(t, "the file", func() bool {
		copied, err := os.ReadFile(filepath.Join(s.dir, "copies", path))
		return err == nil && bytes.Equal(copied, served)
	})
	eventually(t, "the object", func() bool {
		object, ok := b.Get("/lists/own/" + path)
		return ok && object.Body == string(served)
	})
}
