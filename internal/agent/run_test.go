package agent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/internal/agent"
	"signet.example/signet/pki"
)

// pair writes a certificate for a.example with its key, valid for a day from now, and a root.
func pair(t *testing.T, dir string, now time.Time) {
	t.Helper()
	pairFor(t, dir, now, 24*time.Hour)
}

func pairFor(t *testing.T, dir string, now time.Time, life time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "a.example"}, DNSNames: []string{"a.example"}, NotBefore: now, NotAfter: now.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"a.pem": certificate, "root.pem": certificate, "a.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The authority is away for three days. The agent begins in time, tries less and less often and never gives up. The
// files stay as they are, no hook runs, and the status says how things stand.
func TestTheAuthorityIsAwayForLong(t *testing.T) {
	for what, reuse := range map[string]string{"a new key": "false", "the same key": "true"} {
		t.Run(what, func(t *testing.T) { theAuthorityIsAwayForLong(t, reuse) })
	}
}

func theAuthorityIsAwayForLong(t *testing.T, reuse string) {
	synctest.Test(t, func(t *testing.T) {
		dir, begun := t.TempDir(), time.Now()
		pair(t, dir, begun)
		text := "server: 127.0.0.1:1\nroot: root.pem\nstatus: status.json\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example], key_reuse: " + reuse + ", hook: [touch, " + filepath.Join(dir, "told") + "]}\n"
		path := filepath.Join(dir, "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := agent.LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(dir, "a.pem"))
		if err != nil {
			t.Fatal(err)
		}
		var attempts []time.Duration
		var kinds []pki.Kind
		a := newAgent(t, *config, time.Now, func(_ agent.Status, err error) {
			attempts, kinds = append(attempts, time.Since(begun)), append(kinds, pki.KindOf(err))
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.Run(ctx); close(ended) }()
		time.Sleep(72 * time.Hour)
		cancel()
		<-ended

		if len(attempts) == 0 || attempts[0] < 14*time.Hour || attempts[0] > 18*time.Hour {
			t.Fatalf("the first attempt was after %v, want at about two thirds of a day", attempts[:min(len(attempts), 1)])
		}
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i] - attempts[i-1]; pause < 15*time.Second || pause > time.Hour+5*time.Minute {
				t.Errorf("attempt %d came %s after the one before", i, pause)
			}
		}
		if n, last := len(attempts), attempts[len(attempts)-1]; n < 50 || n > 160 || last < 70*time.Hour {
			t.Errorf("%d attempts, the last after %s", n, last)
		}
		// While the certificate is in force the authority is asked. After that nothing proves a request: there is no token.
		if kinds[0] != pki.KindUnavailable || kinds[len(kinds)-1] != pki.KindUnauthenticated {
			t.Errorf("the first failure is %s, the last %s", kinds[0], kinds[len(kinds)-1])
		}
		if now, err := os.ReadFile(filepath.Join(dir, "a.pem")); err != nil || !bytes.Equal(now, before) {
			t.Errorf("the certificate changed: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "told")); err == nil {
			t.Error("the hook ran, and nothing had changed")
		}
		var status struct {
			Certificates []agent.Status `json:"certificates"`
		}
		said, err := os.ReadFile(filepath.Join(dir, "status.json"))
		if err != nil || json.Unmarshal(said, &status) != nil || len(status.Certificates) != 1 || status.Certificates[0].Failures != len(attempts) || status.Certificates[0].Error == "" {
			t.Errorf("the status says %s, %v", said, err)
		}
	})
}

// The pauses of the agent are short enough that a short-lived certificate is tried again before it ends.
func TestAShortLifeIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, begun := t.TempDir(), time.Now()
		pairFor(t, dir, begun, time.Hour)
		path := filepath.Join(dir, "agent.yaml")
		if err := os.WriteFile(path, []byte("server: 127.0.0.1:1\nroot: root.pem\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := agent.LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		var last time.Duration // when the authority was asked last
		longest, attempts := time.Duration(0), 0
		a := newAgent(t, *config, time.Now, func(s agent.Status, err error) {
			if left := time.Until(s.NotAfter); left > 0 {
				last, attempts = time.Since(begun), attempts+1
				if pause := time.Until(s.NextTry); pause > max(left/8, 30*time.Second) {
					longest = max(longest, pause)
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.Run(ctx); close(ended) }()
		time.Sleep(2 * time.Hour)
		cancel()
		<-ended
		if last < 59*time.Minute || longest > 0 || attempts > 80 {
			t.Errorf("the authority was asked %d times, last after %s, and the pause was up to %s where an eighth of what was left was less", attempts, last, longest)
		}
	})
}

// A hook that fails for ever is reported and tried again, but the certificate is renewed before it ends.
func TestAHookThatAlwaysFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, begun := t.TempDir(), time.Now()
		pair(t, dir, begun)
		next, err := os.ReadFile(filepath.Join(dir, "a.key"))
		if err != nil {
			t.Fatal(err)
		}
		next = append(next, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30, 0}})...)
		text := "server: 127.0.0.1:1\nroot: root.pem\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example], hook: [sh, -c, 'echo >> " + filepath.Join(dir, "ran") + "; exit 1']}\n"
		path := filepath.Join(dir, "agent.yaml")
		for name, text := range map[string][]byte{"a.key.next": next, "agent.yaml": []byte(text)} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		config, err := agent.LoadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		ran := func() int64 { // how often the hook was
			info, err := os.Stat(filepath.Join(dir, "ran"))
			if err != nil {
				return 0
			}
			return info.Size()
		}
		var hooks int64           // until then
		var renewed time.Duration // when the authority was asked first
		a := newAgent(t, *config, time.Now, func(_ agent.Status, err error) {
			if !strings.Contains(err.Error(), "run hook") && renewed == 0 {
				renewed, hooks = time.Since(begun), ran()
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.Run(ctx); close(ended) }()
		time.Sleep(24 * time.Hour)
		cancel()
		<-ended
		if after := ran(); hooks < 10 || renewed < 19*time.Hour || renewed > 22*time.Hour || after < hooks+2 {
			t.Errorf("the hook was tried %d times; the authority was asked after %s, want at about five sixths of a day; then the hook was tried %d times", hooks, renewed, after-hooks)
		}
	})
}
