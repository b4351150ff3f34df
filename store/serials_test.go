package store_test

import (
	"slices"
	"testing"

	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func TestSerials(t *testing.T) {
	for _, serials := range [][]pki.Serial{nil, {{19: 1}}, {{0: 0x41, 19: 1}, {19: 2}}} {
		octets := store.JoinSerials(serials)
		if got, err := store.SplitSerials(octets); err != nil || !slices.Equal(got, serials) || octets == nil {
			t.Errorf("%x comes back as %x, %v", serials, got, err)
		}
		if got, err := store.SplitSerials(append(octets, 0x41)); err == nil || got != nil {
			t.Errorf("%x and a piece comes back as %x", serials, got)
		}
	}
}
