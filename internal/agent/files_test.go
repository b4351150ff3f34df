package agent_test

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/internal/agent"
)

// Where the key cannot be written, the certificate stays too: a service that reads both goes on.
func TestBothFilesOrNone(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	pair(t, dir, time.Now())
	pair(t, other, time.Now())
	at := agent.Files{Certificate: filepath.Join(dir, "a.pem"), Key: filepath.Join(dir, "a.key")}
	next, err := agent.Files{Certificate: filepath.Join(other, "a.pem"), Key: filepath.Join(other, "a.key")}.Read()
	if err != nil {
		t.Fatal(err)
	}
	chain, keyPEM, before := read(t, filepath.Join(other, "a.pem")), read(t, filepath.Join(other, "a.key")), read(t, at.Certificate)

	nowhere := agent.Files{Certificate: at.Certificate, Key: filepath.Join(dir, "taken")}
	if err := os.Mkdir(nowhere.Key, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := nowhere.Install(next.Key, keyPEM, chain); err == nil || !bytes.Equal(read(t, at.Certificate), before) {
		t.Errorf("the key could not be written (%v), and the certificate was", err)
	}
	if err := os.Remove(nowhere.Key); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{at.Certificate: 0o640, at.Key: 0o440} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := at.Install(next.Key, keyPEM, chain); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(at.Certificate, at.Key); err != nil || !bytes.Equal(read(t, at.Certificate), chain) {
		t.Errorf("the new pair: %v", err)
	}
	for path, want := range map[string]os.FileMode{at.Certificate: 0o640, at.Key: 0o440} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left behind: %v, %v", left, err)
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
