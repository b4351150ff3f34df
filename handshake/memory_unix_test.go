//go:build unix

package handshake_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/handshake/handshaketest"
)

// TestRecheckWhileDirectoryHangs: connections are watched while the directory of the disk cache cannot be read.
func TestRecheckWhileDirectoryHangs(t *testing.T) {
	p, dir := handshaketest.New(t, "root -> leaf noaia"), t.TempDir()
	leaf, checker := p.Cert("leaf"), sharing(t, p, dir)
	conn := tracked(t, p, checker, leaf, leaf.TLS(nil))
	hanging := filepath.Join(dir, "facts", strings.Repeat("ab", 32))
	if err := syscall.Mkfifo(hanging, 0o600); err != nil { // who opens it to read waits for who opens it to write
		t.Fatal(err)
	}
	leaf.Revoke(1)
	p.Advance(time.Minute)
	done := make(chan struct{})
	go func() { checker.Recheck(t.Context()); close(done) }()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it was not closed: %v", err)
	}
	writing, err := os.OpenFile(hanging, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	writing.Close()
	<-done
}
