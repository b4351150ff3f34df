package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/internal/agent"
	"signet.example/signet/pki"
)

func TestConfig(t *testing.T) {
	const good = "server: ca.example:8443\nroot: root.pem\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example]}\n"
	dir := t.TempDir()
	load := func(text string) (*agent.Config, error) {
		path := filepath.Join(dir, "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return agent.LoadConfig(path)
	}
	c, err := load(good)
	if err != nil {
		t.Fatal(err)
	}
	k := c.Certificates[0]
	if c.Root != filepath.Join(dir, "root.pem") || k.Files.Key != filepath.Join(dir, "a.key") || k.Profile != "" || k.HookTime != 30*time.Second || k.RenewAt < 0.66 || k.RenewAt > 0.67 {
		t.Errorf("the defaults are %+v", c)
	}
	for field, text := range map[string]string{
		"server":                        strings.Replace(good, "server: ca.example:8443", "", 1),
		"certificates":                  "server: a:1\nroot: r\n",
		"certificates[0].names":         strings.Replace(good, "a.example]", "'a b']", 1),
		"certificates[0].renew_at":      strings.Replace(good, "]}", "], renew_at: 0.95}", 1),
		"certificates[0].key_algorithm": strings.Replace(good, "]}", "], key_algorithm: dsa}", 1),
		"certificates[0].hook_timeout":  strings.Replace(good, "]}", "], hook_timeout: 2h}", 1),
		"certificates[1]":               good + "  - {certificate: b.pem, key: a.key, names: [b.example]}\n",
		"":                              good + "surprise: 1\n",
	} {
		_, err := load(text)
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Kind != pki.KindInvalid || e.Field != field || !strings.Contains(e.Hint, "OPERATIONS.md lists every field") {
			t.Errorf("want a fault in field %q: %v", field, err)
		}
	}
}

func TestNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := agent.LoadConfig(path)
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindNotFound || !strings.Contains(e.Error(), path) || !strings.Contains(e.Hint, "docs/OPERATIONS.md") {
		t.Errorf("got %v, %+v", err, e)
	}
}

// Without a token and without a certificate, an agent says so, waits, and makes no key.
func TestNothingToRenewWith(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte("server: a:1\nroot: r\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := agent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	told := 0
	a := newAgent(t, *c, func() time.Time { return now }, func(agent.Status, error) { told++ })
	for failures := 1; failures <= 12; failures++ {
		all, err := a.Once(t.Context())
		if err == nil || pki.KindOf(err) != pki.KindUnauthenticated {
			t.Fatalf("without a certificate and a token: %v", err)
		}
		s := all[0]
		pause := s.NextTry.Sub(now)
		if most := min(time.Hour, 30*time.Second<<(failures-1)); s.Failures != failures || pause < most/2 || pause > most {
			t.Fatalf("after %d failures it waits %s: %+v", failures, pause, s)
		}
		if _, err := a.Once(t.Context()); err != nil { // too early: nothing is tried
			t.Fatal(err)
		}
		now = s.NextTry
	}
	if told != 12 {
		t.Errorf("it spoke %d times", told)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("it left %v", entries)
	}
}

func TestMistakesInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	text := "server: a:1\nroot: r\ncertificates:\n  - {certificate: a.pem, key: a.key, names: [a.example], lifetime: soon}\n  - {certificate: b.pem, key: b.key, nams: [b.example]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := agent.LoadConfig(path)
	want := path + `: line 4: certificates[0].lifetime: "soon" is not a duration such as 90s, 30m, 24h, 7d or 1y; line 5: certificates[1].nams: there is no such field here; did you mean names?`
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte("server: ca.example:8443\nroot: root.pem\ncertificates:\n  - {certificate: keys/a.pem, key: keys/a.key, names: [a.example]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := agent.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Lock(); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		release, err := config.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Lock(); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("a second agent: %v", err)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	// A link in place of the lock could make a file anywhere.
	lock := filepath.Join(dir, "keys", "a.key.lock")
	if err := errors.Join(os.Remove(lock), os.Symlink(filepath.Join(dir, "elsewhere"), lock)); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Lock(); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("the lock is a link: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the link points to was made: %v", err)
	}
}

func newAgent(t *testing.T, config agent.Config, now func() time.Time, say func(agent.Status, error)) *agent.Agent {
	t.Helper()
	a, err := agent.New(config, now, say)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A token that cannot be read is reported once, before it is needed, and stays in the status until it can be read.
func TestATokenThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		pair(t, dir, time.Now())
		config := placed(t, dir, map[string][]byte{"agent.yaml": []byte("server: 127.0.0.1:1\nroot: root.pem\ntoken_file: token\nstatus: status.json\ncertificates: [{certificate: a.pem, key: a.key, names: [a.example]}]\n")})
		var said []string
		a := newAgent(t, *config, time.Now, func(s agent.Status, err error) { said = append(said, s.Certificate+": "+err.Error()) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.Run(ctx); close(ended) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(said) != 1 || !strings.HasPrefix(said[0], config.TokenFile+": ") || !strings.Contains(said[0], "no such file") {
			t.Errorf("it said %q", said)
		}
		if status := read(t, config.Status); !strings.Contains(string(status), `"token_error"`) {
			t.Errorf("the status says %s", status)
		}
		if err := os.WriteFile(config.TokenFile, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if status := read(t, config.Status); strings.Contains(string(status), `"token_error"`) || len(said) != 1 {
			t.Errorf("there is a token, and the status says %s, and it said %q", status, said)
		}
		cancel()
		<-ended
	})
}
