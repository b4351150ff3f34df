package crlserver_test

import (
	"crypto"
	"fmt"
	"io"
	"testing"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// hangingSigner signs when the test ends: worse than any key behind a guard, which gives up.
type hangingSigner struct {
	crypto.Signer
	until <-chan struct{}
}

func (s hangingSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	<-s.until
	return s.Signer.Sign(random, digest, opts)
}

// However many issuers have keys that hang, the lists of the others are published and everything is served.
func TestKeysThatHang(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		end := make(chan struct{})
		var issuers []crlserver.Issuer
		for i := range 6 { // more than are at work at a time, with several lists each
			a := newAuthority(t, s, fmt.Sprintf("Hung CA %d", i))
			a.reserve(t, epoch, 0, base)
			a.reserve(t, epoch+1, 0, base)
			config := a.config()
			config.Signer = hangingSigner{a.key, end}
			issuers = append(issuers, config)
		}
		good := newAuthority(t, s, "Good CA")
		good.reserve(t, epoch, 0, base)
		i := start(t, s, &clock{}, nil, append(issuers, good.config())...)
		t.Cleanup(func() { close(end) }) // before the publisher is stopped: it waits for what is in flight

		served := func(list crlserver.List, index uint64) func() bool {
			return func() bool {
				if _, _, ok := i.Document(list); !ok {
					return false
				}
				reason, on := has(i.list(t, good, list), epoch, index)
				return on && reason == pki.KeyCompromise
			}
		}
		for index := range uint64(3) {
			good.revoke(t, index)
			eventually(t, "a revocation on the shard", served(good.shard(), index))
			eventually(t, "a revocation on the complete list", served(good.complete(), index))
		}
	})
}
