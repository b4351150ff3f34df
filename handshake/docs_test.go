package handshake_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocumentedProgram builds the program of docs/HANDSHAKE.md and holds it to its promise of thirty lines.
func TestDocumentedProgram(t *testing.T) {
	text, err := os.ReadFile("../docs/HANDSHAKE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```go\npackage main")
	program, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("the page has no program")
	}
	if lines := strings.Count(program, "\n"); lines >= 30 {
		t.Errorf("the program has %d lines", lines)
	}
	// Inside the module, in a directory that the go command does not see by itself.
	dir, err := os.MkdirTemp("testdata", "program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main"+program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
