package crlserver_test

import (
	"crypto"
	"fmt"
	"io"
	"sync"
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

// slowToBuild is a key whose lists take until the test ends to be put together.
type slowToBuild struct {
	crypto.Signer
	until <-chan struct{}
}

func (s slowToBuild) Public() crypto.PublicKey { // the first thing that building a list asks for
	<-s.until
	return s.Signer.Public()
}

// However many issuers have complete lists that take long, shards are published meanwhile.
func TestLongCompleteLists(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		end := make(chan struct{})
		var issuers []crlserver.Issuer
		for i := range 5 { // more than are at work at a time; none has a shard
			config := newAuthority(t, s, fmt.Sprintf("Long CA %d", i)).config()
			config.Signer = slowToBuild{config.Signer, end}
			issuers = append(issuers, config)
		}
		short := newAuthority(t, s, "Short CA")
		short.reserve(t, epoch, 0, base)
		i := start(t, s, &clock{}, nil, append(issuers, short.config())...)
		finish := sync.OnceFunc(func() { close(end) })
		t.Cleanup(finish) // before the publisher is stopped: it waits for what is in flight
		for index := range uint64(3) {
			seq := short.revoke(t, index)
			eventually(t, "a revocation on the shard", func() bool {
				_, head, _ := i.Document(short.shard())
				return head.Seq >= seq && head.Entries == int(index)+1
			})
		}
		finish()
		eventually(t, "all complete lists", func() bool { return len(i.Lists()) == 7 })
	})
}

// Shards of others are rebuilt while complete lists are, of whatever length; those wait for their turn.
func TestAdoptsBesideCompleteLists(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Adopted CA")
		a.reserve(t, epoch, 0, base)
		keyed := start(t, s, &clock{}, nil, a.config())
		keyed.await(t, a.revoke(t, 0))
		keyless := a.config()
		keyless.Signer = nil
		reader := start(t, s, &clock{}, nil, keyless)
		adopted := func(l crlserver.List, entries int) {
			t.Helper()
			eventually(t, l.String()+" is adopted", func() bool { _, head, _ := reader.Document(l); return head.Entries == entries })
		}
		adopted(a.complete(), 1)
		release := sync.OnceFunc(reader.TestingOnlyTakeTurnOfCompleteLists()) // one that takes long is made or rebuilt here
		t.Cleanup(release)
		for index := range uint64(3) {
			keyed.await(t, a.revoke(t, 1+index))
			adopted(a.shard(), int(index)+2)
		}
		if _, head, _ := reader.Document(a.complete()); head.Entries != 1 {
			t.Errorf("a complete list of %d entries was adopted out of turn", head.Entries)
		}
		release()
		adopted(a.complete(), 4)
	})
}
