package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
)

// agentOf writes the configuration of an agent with some certificates that are always due: they are backdated by an
// hour and live for one.
func (s *site) agentOf(t *testing.T, names []string, more string) (config string) {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("server: %q\nroot: %q\ntoken_file: %q\nstatus: status.json\ncertificates:\n", s.addresses.API, filepath.Join(s.dir, "root.pem"), filepath.Join(s.dir, "admin.token"))
	for _, name := range names {
		text += fmt.Sprintf("  - {certificate: %s.pem, key: %s.key, names: [%s], lifetime: 1h, renew_at: 0.2%s}\n", name, name, name, more)
	}
	config = filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

func agentOnce(config string) *exec.Cmd { return exec.Command(program, "agent", config, "--once") }

// An agent that is killed at any time leaves whole files; a certificate and a key that do not match are completed by
// the next run, without asking for another certificate than the one that was issued.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	s.start(t)
	names := []string{"a.example", "b.example", "c.example", "d.example"}
	config := s.agentOf(t, names, "")
	file := func(name, suffix string) string { return filepath.Join(filepath.Dir(config), name+suffix) }
	begun := time.Now()
	if out, err := agentOnce(config).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(begun) // how long a run takes, to be cut short somewhere

	torn, halfway := 0, 0
	for range 9 { // an account may renew the same names ten times at once
		agent := agentOnce(config)
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(whole))))
		_ = agent.Process.Kill() // it may have ended
		_ = agent.Wait()
		for _, name := range names {
			certificate, key := read(t, file(name, ".pem")), read(t, file(name, ".key"))
			if _, err := tls.X509KeyPair(certificate, key); err == nil {
				continue
			}
			// Between the two files: the key of the certificate waits beside the old one.
			halfway++
			if _, err := tls.X509KeyPair(certificate, read(t, file(name, ".key.next"))); err != nil {
				torn++
				t.Errorf("%s: the certificate has no key: %v", name, err)
			}
		}
	}
	t.Logf("killed 9 times, %d certificates between their two files, %d torn", halfway, torn)
	if out, err := agentOnce(config).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range names {
		if _, err := tls.LoadX509KeyPair(file(name, ".pem"), file(name, ".key")); err != nil {
			t.Errorf("%s in the end: %v", name, err)
		}
		if _, err := os.Lstat(file(name, ".key.next")); !os.IsNotExist(err) {
			t.Errorf("%s: something unfinished is left: %v", name, err)
		}
	}
}

// Every state that a kill can leave between two steps of a replacement is completed by the next run, with the
// certificate that was issued and no other.
func TestAgentGoesOnFromEveryStep(t *testing.T) {
	for name, more := range map[string]string{"a new key": "", "the same key": ", key_reuse: true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testAgentGoesOn(t, more)
		})
	}
}

func testAgentGoesOn(t *testing.T, more string) {
	s := found(t, "sqlite:signet.db")
	s.start(t)
	config := s.agentOf(t, []string{"a.example"}, `, hook: [test, -e, ready]`+more)
	dir := filepath.Dir(config)
	path := func(suffix string) string { return filepath.Join(dir, "a.example"+suffix) }
	once := func(ready bool) error {
		flag := filepath.Join(dir, "ready")
		if ready {
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = os.Remove(flag) // it may not be there
		}
		agent := agentOnce(config)
		agent.Dir = dir
		out, err := agent.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "run hook") {
			t.Fatalf("%v\n%s", err, out)
		}
		return err
	}
	issued := func() int {
		page, err := s.api.Certificates(t.Context(), client.CertificateFilter{Identifier: "a.example"}, client.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Items)
	}
	if err := once(true); err != nil {
		t.Fatal(err)
	}
	oldCertificate, oldKey := read(t, path(".pem")), read(t, path(".key"))

	// The hook fails: both files are new and match, and it is tried again without another certificate.
	if err := once(false); err == nil {
		t.Error("a hook that failed was not told")
	}
	if err := once(false); err == nil || issued() != 2 {
		t.Errorf("the hook failed again: %v, %d certificates", err, issued())
	}
	newCertificate, newKey, next := read(t, path(".pem")), read(t, path(".key")), read(t, path(".key.next"))
	if _, err := tls.X509KeyPair(newCertificate, newKey); err != nil || bytes.Equal(newCertificate, oldCertificate) {
		t.Errorf("after the hook failed: %v", err)
	}
	for _, state := range []struct {
		what             string
		certificate, key []byte
	}{
		{"the request was answered, and nothing written", oldCertificate, oldKey},
		{"the certificate was written, and not the key", newCertificate, oldKey},
		{"both were written, and nobody told", newCertificate, newKey},
	} {
		for suffix, text := range map[string][]byte{".pem": state.certificate, ".key": state.key, ".key.next": next} {
			if err := os.WriteFile(path(suffix), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := once(true); err != nil {
			t.Errorf("%s: %v", state.what, err)
		}
		if !bytes.Equal(read(t, path(".pem")), newCertificate) || issued() != 2 {
			t.Errorf("%s: another certificate was asked for: %d", state.what, issued())
		}
		if _, err := tls.LoadX509KeyPair(path(".pem"), path(".key")); err != nil {
			t.Errorf("%s: %v", state.what, err)
		}
		if _, err := os.Lstat(path(".key.next")); !os.IsNotExist(err) {
			t.Errorf("%s: something unfinished is left: %v", state.what, err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
