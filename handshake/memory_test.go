package handshake_test

import (
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/handshaketest"
)

// sharing is a Checker, as of another process, over a directory.
func sharing(t *testing.T, p *handshaketest.PKI, dir string) *handshake.Checker {
	t.Helper()
	fetcher, err := fetch.New(fetch.Config{Dir: dir, Allow: handshaketest.Loopback, Now: p.Now})
	if err != nil {
		t.Fatal(err)
	}
	return p.Checker(func(c *handshake.Config) { c.Policy, c.Fetcher = handshake.SoftFail, fetcher })
}

// TestRevocationOutlivesProcess: a certificate that was seen revoked stays so, in later processes and in those that run
// already, although nobody can be asked any more.
func TestRevocationOutlivesProcess(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia; root -> other nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	good := leaf.OCSP(handshaketest.OCSP{Life: 24 * time.Hour})
	running := sharing(t, p, dir)
	if _, err := running.Check(t.Context(), leaf.Chain(), good); err != nil {
		t.Fatal(err)
	}
	leaf.Revoke(1)
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); outcomeOf(t, err) != handshaketest.RevokedOutcome {
		t.Fatal(err)
	}
	p.Off()
	later := sharing(t, p, dir)
	p.Advance(2 * time.Second)
	for name, checker := range map[string]*handshake.Checker{"one that runs": running, "a later one": later} {
		r, err := checker.Check(t.Context(), leaf.Chain(), good) // a replay
		if outcomeOf(t, err) != handshaketest.RevokedOutcome {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := r.Certificates[0].Decisive; d.Source != handshake.SourceMemory || d.Reason != 1 || d.RevokedAt.IsZero() {
			t.Errorf("%s: the evidence is %+v", name, d)
		}
	}
	if _, err := later.Check(t.Context(), p.Cert("other").Chain(), nil); err != nil {
		t.Errorf("another certificate: %v", err)
	}
}

// TestOthersRevocationCuts: what another process has seen revoked ends our connections too.
func TestOthersRevocationCuts(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	ours := sharing(t, p, dir)
	config, err := ours.WrapClient(p.ClientConfig(leaf))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", p.Listen(p.ServerConfig(leaf, nil)), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ours.Track(conn)
	leaf.Revoke(1)
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	p.Advance(2 * time.Second)
	ours.Recheck(t.Context())
	if err := handshaketest.Echo(conn); err == nil {
		t.Error("the connection lives on")
	}
}

// TestHoldIsNotKept: a hold can be taken back, so nobody finds it on disk.
func TestHoldIsNotKept(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia hold")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not on hold")
	}
	leaf.Release()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err != nil {
		t.Error(err)
	}
}

// TestFactsOnDisk: a revocation is kept until its certificate ends, and damage or a file under another's name is not
// believed.
func TestFactsOnDisk(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf nocdp noaia revoked; root -> other nocdp noaia")
	leaf, dir := p.Cert("leaf"), t.TempDir()
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), leaf.OCSP(handshaketest.OCSP{})); err == nil {
		t.Fatal("not revoked")
	}
	files, err := filepath.Glob(filepath.Join(dir, "facts", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d facts, %v", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "facts", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	if err := os.Rename(files[0], moved); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Errorf("under another name: %v", err)
	}
	if err := os.WriteFile(files[0], text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err != nil {
		t.Errorf("damaged: %v", err)
	}
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sharing(t, p, dir).Check(t.Context(), leaf.Chain(), nil); err == nil {
		t.Error("whole again: accepted")
	}
	p.Advance(60 * 24 * time.Hour) // the certificate has expired
	sharing(t, p, dir)
	if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
		t.Errorf("after the end of the certificate: %v, want %v", err, fs.ErrNotExist)
	}
}
