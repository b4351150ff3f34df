package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"signet.example/signet/pki"
)

// TestBatchOutcome: what may pass is to be tried again, what is wrong is to be mended, and the first reasons of each
// kind are told.
func TestBatchOutcome(t *testing.T) {
	away := pki.Errorf(pki.KindUnavailable, "record certificates", "the disk is full")
	full := pki.Errorf(pki.KindExhausted, "issue certificate", "too many certificates wait for the key")
	wrong := pki.Errorf(pki.KindInvalid, "issue certificate", "not a host name")
	for _, tc := range []struct {
		failures []error
		kind     pki.Kind
		reasons  []string
	}{
		{[]error{away, away, full}, pki.KindUnavailable, []string{"line 1: " + away.Error(), "line 3: " + full.Error()}},
		{[]error{away, wrong, away, wrong}, pki.KindRefused, []string{"line 1: " + away.Error(), "line 2: " + wrong.Error()}},
	} {
		results, err := os.Create(filepath.Join(t.TempDir(), "results.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		b := &batch{results: results, bar: &progress{}}
		for i, failure := range tc.failures {
			if err := b.fail(i+1, "id", failure); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.outcome("results.jsonl"); pki.KindOf(err) != tc.kind || !slices.Equal(b.reasons, tc.reasons) {
			t.Errorf("%v gave %v and %q", tc.failures, err, b.reasons)
		}
		if err := results.Close(); err != nil {
			t.Error(err)
		}
	}
}
