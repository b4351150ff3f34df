package pki_test

import (
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"signet.example/signet/pki"
)

// The identifiers are known to every build; the keys only to one with Go 1.27.
func TestMLDSAIsNamedByEveryBuild(t *testing.T) {
	for set, want := range map[pki.MLDSA]string{
		pki.MLDSA44: "300b0609608648016503040311", pki.MLDSA65: "300b0609608648016503040312", pki.MLDSA87: "300b0609608648016503040313",
	} {
		if got := hex.EncodeToString([]byte(set.AlgorithmIdentifier())); got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
		if pki.MLDSAByIdentifier(set.AlgorithmIdentifier()) != set {
			t.Errorf("%s is not found by its identifier", set)
		}
		err := set.Supported()
		if old := strings.HasPrefix(runtime.Version(), "go1.26"); (err != nil) != old {
			t.Errorf("%s in a build with %s: %v", set, runtime.Version(), err)
		}
		if err != nil && (pki.KindOf(err) != pki.KindFailedPrecondition || !strings.Contains(err.Error(), "Go 1.27")) {
			t.Errorf("%s: %v", set, err)
		}
	}
	withParameters := "\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x11\x05\x00"
	if pki.MLDSAByIdentifier(withParameters) != pki.NoMLDSA || pki.NoMLDSA.AlgorithmIdentifier() != "" {
		t.Error("an identifier with parameters counts as one of ML-DSA")
	}
}
