//go:build !go1.27

package profile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/ca/profile"
)

// A profile that names ML-DSA is refused by file and line, and says which build it needs.
func TestAProfileOfMLDSANeedsGo127(t *testing.T) {
	dir := t.TempDir()
	text := "name: post-quantum\nlifetime: 30d\nkeys:\n  algorithms: [ecdsa-p256, ml-dsa-44]\nkey_usage: [digital_signature]\n"
	if err := os.WriteFile(filepath.Join(dir, "post-quantum.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := profile.Open(dir)
	if err == nil || !strings.Contains(err.Error(), "post-quantum.yaml:4") || !strings.Contains(err.Error(), "ML-DSA-44 needs a build with Go 1.27") {
		t.Errorf("got %v", err)
	}
}
