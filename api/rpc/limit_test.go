package rpc_test

import (
	"context"
	"testing"
	"testing/synctest"

	"signet.example/signet/api/rpc"
	"signet.example/signet/pki"
)

// TestTurns: one source may have only a limited number waiting, others get their turn after these, and a caller that
// goes away leaves nothing behind.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := rpc.NewTurns(1, 3)
		leave, err := turns.Take(t.Context(), "attacker")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 10)
		wait := func(ctx context.Context, source string) {
			if leave, err := turns.Take(ctx, source); err == nil {
				got <- source
				leave()
			}
		}
		impatient, cancel := context.WithCancel(t.Context())
		go wait(t.Context(), "attacker")
		go wait(impatient, "attacker")
		synctest.Wait()
		if _, err := turns.Take(t.Context(), "attacker"); pki.KindOf(err) != pki.KindExhausted || err == nil {
			t.Errorf("a fourth: %v", err)
		}
		go wait(t.Context(), "victim")
		synctest.Wait()
		cancel()
		synctest.Wait()
		go wait(t.Context(), "attacker") // in the place of the one that went away
		synctest.Wait()
		leave()
		synctest.Wait()
		close(got)
		var order []string
		for source := range got {
			order = append(order, source)
		}
		if len(order) != 3 || order[1] != "victim" {
			t.Errorf("turns: %v", order)
		}
		if leave, err := turns.Take(t.Context(), "attacker"); err != nil {
			t.Errorf("when all have gone: %v", err)
		} else {
			leave()
		}
	})
}

// A host with IPv6 has 2^64 addresses to come from.
func TestNetworkOf(t *testing.T) {
	for source, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "::ffff:192.0.2.7", "": "", "@": "@",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := rpc.NetworkOf(source); got != want {
			t.Errorf("%q counts as %q, want %q", source, got, want)
		}
	}
}
