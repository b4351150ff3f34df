package server_test

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"signet.example/signet/internal/testbucket"
	"signet.example/signet/pki"
)

// TestCopies: a directory and a bucket that are configured have a list as it is served, under the path that
// certificates name. A bucket that fails from the start is told of, with nothing revoked, and so is its end.
func TestCopies(t *testing.T) {
	t.Parallel()
	b, _ := testbucket.New(t)
	var up atomic.Bool
	b.Before = func(string) int {
		if up.Load() {
			return 0
		}
		return http.StatusInsufficientStorage
	}
	endpoint := httptest.NewServer(b)
	t.Cleanup(endpoint.Close)
	s := found(t, "sqlite:signet.db")
	s.env = []string{"SIGNET_CRL_DIRECTORY=copies", "SIGNET_CRL_S3_ENDPOINT=" + endpoint.URL, "SIGNET_CRL_S3_BUCKET=lists", "SIGNET_CRL_S3_PREFIX=own/",
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret"}
	s.start(t)
	check, failing := "mirror/"+endpoint.URL+"/lists", `signet_mirror_failing_seconds{mirror="`+endpoint.URL+`/lists"}`
	eventually(t, "the warning", func() bool {
		state, detail, ready := s.readiness(t, check)
		seconds, _ := s.metric(t, failing)
		return state == "warning" && strings.Contains(detail, "507") && strings.Contains(detail, "has failed since ") && ready && seconds > 0
	})
	up.Store(true)
	eventually(t, "no warning", func() bool {
		state, _, _ := s.readiness(t, check)
		seconds, ok := s.metric(t, failing)
		return state == "ok" && ok && seconds == 0
	})
	if seconds, ok := s.metric(t, `signet_mirror_failing_seconds{mirror="`+filepath.Join(s.dir, "copies")+`"}`); !ok || seconds != 0 {
		t.Errorf("the directory has failed for %v seconds (%t)", seconds, ok)
	}
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
	index := path[:strings.LastIndex(path, "/")] + "/index.json"
	served = get(t, "http://"+s.addresses.Public+"/"+index)
	eventually(t, "the index", func() bool {
		copied, err := os.ReadFile(filepath.Join(s.dir, "copies", index))
		object, _ := b.Get("/lists/own/" + index)
		return err == nil && bytes.Equal(copied, served) && object.Body == string(served) && object.Header.Get("Content-Type") == "application/json" && bytes.Contains(served, []byte(url))
	})
}
