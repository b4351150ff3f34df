package crlserver_test

import (
	"crypto"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
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

// However many issuers have complete lists that take long, shards are published and rebuilt meanwhile; and a publisher whose complete
// lists wait for their turn stops at once, and leaves no lease behind.
func TestLongCompleteLists(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		var all []*authority
		var issuers, keyless []crlserver.Issuer
		for i := range 6 { // more than are at work at a time
			a := newAuthority(t, s, fmt.Sprintf("Long CA %d", i))
			all, issuers, keyless = append(all, a), append(issuers, a.config()), append(keyless, a.config())
			keyless[i].Signer = nil
		}
		keyed, reader := start(t, s, &clock{}, nil, issuers...), start(t, s, &clock{}, nil, keyless...)
		shows := func(i instance, entries func(a *authority) int, list func(a *authority) crlserver.List) {
			t.Helper()
			eventually(t, "all lists", func() bool {
				return !slices.ContainsFunc(all, func(a *authority) bool {
					_, head, ok := i.Document(list(a))
					return !ok || head.Entries != entries(a)
				})
			})
		}
		none := func(*authority) int { return 0 }
		shows(reader, none, (*authority).complete)
		t.Cleanup(reader.TestingOnlyTakeTurnOfCompleteLists())
		keyed.await(t, all[0].revoke(t, 0))
		t.Cleanup(keyed.TestingOnlyTakeTurnOfCompleteLists())
		for index := range uint64(3) {
			for _, a := range all {
				a.revoke(t, 1+index)
			}
			want := func(a *authority) int {
				if a == all[0] {
					return int(index) + 2
				}
				return int(index) + 1
			}
			shows(keyed, want, (*authority).shard)
			shows(reader, want, (*authority).shard)
		}
		shows(reader, none, (*authority).complete)
		reader.stop()
		keyed.stop()
		if len(keyed.Lists()) != 12 {
			t.Errorf("%d lists", len(keyed.Lists()))
		}
		for _, a := range all[1:] {
			_, head, _ := keyed.Document(a.complete())
			if head.Entries != 0 {
				t.Errorf("a complete list of %d entries was made out of turn", head.Entries)
			}
			if _, free, err := s.BeginPublication(t.Context(), a.complete().Series, revocation.InstanceID{0xff}, head.Number, 0); err != nil || !free {
				t.Errorf("a lease is left behind: %t, %v", !free, err)
			}
		}
		shows(start(t, s, &clock{}, nil, issuers...), func(a *authority) int {
			_, head, _ := keyed.Document(a.shard())
			return head.Entries
		}, (*authority).complete)
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
