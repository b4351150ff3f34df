package server_test

import (
	"testing"

	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

// A credential may not make more calls in a second than the settings allow.
func TestCallsPerSecond(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	config := s.config(t)
	config.API.CallsPerSecond = 1
	runInstance(t, config, server.Options{})
	eventually(t, "it is ready", s.ready)
	const calls = 64 // they do not take a second each
	answers := make(chan error, calls)
	for range calls {
		go func() {
			_, err := s.api.WhoAmI(t.Context())
			answers <- err
		}()
	}
	kinds := map[pki.Kind]int{}
	for range calls {
		err := <-answers
		kinds[pki.KindOf(err)]++
	}
	if kinds[pki.KindExhausted] == 0 || kinds[pki.KindExhausted] == calls {
		t.Errorf("of %d calls at once: %v", calls, kinds)
	}
}
