package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/internal/installation"
)

// A server that is told to stop before it serves ends as one that served.
func TestToldToStopBeforeItServes(t *testing.T) {
	t.Parallel()
	dir, passphrase := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := installation.Initialize(t.Context(), installation.InitConfig{
		Dir: dir, Database: "sqlite:signet.db", PublicURL: "http://pki.test", Passphrase: []byte("correct horse"), PassphraseFile: passphrase,
		APIListen: "127.0.0.1:0", PublicListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var said bytes.Buffer
	a := &app{ctx: ctx, out: &said, err: &said, config: filepath.Join(dir, "signet.yaml"), getenv: func(string) string { return "" }}
	if err := (&serveCmd{Role: "all"}).Run(a); err != nil || !strings.Contains(said.String(), "told to stop before it served") || strings.Contains(said.String(), "ERROR") {
		t.Errorf("%v\n%s", err, said.String())
	}
}
