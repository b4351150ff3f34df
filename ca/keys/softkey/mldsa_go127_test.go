//go:build go1.27

package softkey_test

import (
	"crypto"
	"crypto/rand"
	"testing"

	"signet.example/signet/ca/keys"
)

// TestMLDSA keeps a key of each parameter set, encrypted, and opens it again.
func TestMLDSA(t *testing.T) {
	store := open(t, privateDir(t), "correct horse")
	for _, algorithm := range []keys.Algorithm{keys.MLDSA44, keys.MLDSA65, keys.MLDSA87} {
		made, err := store.Create(t.Context(), algorithm.String(), algorithm)
		if err != nil {
			t.Fatal(err)
		}
		found, err := store.Open(t.Context(), made.URI)
		if err != nil {
			t.Fatal(err)
		}
		if keys.AlgorithmOf(found.Public()) != algorithm || found.Secret != made.Secret || !keys.InMemory(found.Signer) {
			t.Errorf("%s: what was found is not what was made", algorithm)
		}
		message := []byte("message")
		signature, err := found.Sign(rand.Reader, message, crypto.Hash(0))
		if err != nil || !keys.Verify(made.Public(), 0, message, nil, signature) {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}
