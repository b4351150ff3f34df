//go:build !go1.27

package keys_test

import (
	"strings"
	"testing"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// A build with Go 1.26 refuses what only Go 1.27 can do, and says so: in requests, in profiles, and when a key is made.
func TestMLDSANeedsGo127(t *testing.T) {
	for _, name := range []string{"ml-dsa-44", "ml-dsa-65", "ml-dsa-87"} {
		_, err := keys.ParseAlgorithm(name)
		if pki.KindOf(err) != pki.KindFailedPrecondition || !strings.Contains(err.Error(), "Go 1.27") {
			t.Errorf("parse %s: %v", name, err)
		}
	}
	if _, err := keys.Generate(keys.MLDSA44); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("generate: %v", err)
	}
	if _, err := keys.ParseAlgorithm("ml-dsa-45"); pki.KindOf(err) != pki.KindInvalid || strings.Contains(err.Error(), "ml-dsa-44") {
		t.Errorf("a name that is none: %v", err)
	}
	if len(keys.All()) != int(keys.Ed25519) {
		t.Errorf("all: %v", keys.All())
	}
}
