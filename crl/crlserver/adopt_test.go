package crlserver_test

import (
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// A list that cannot be rebuilt here, and whose octets nobody kept, is served once what stood in the way is gone, though no other is
// published and this instance has not the key.
func TestRebuiltLater(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Changed CA")
	a.reserve(t, epoch, 0, base)
	first := start(t, s, &clock{}, nil, a.config())
	first.await(t, a.revoke(t, 0)) // the first list's octets are kept
	var long []revocation.NewEntry
	for index := range uint64(100) { // more than 4 KiB
		long = append(long, a.event(epoch, 1+index, revocation.KindRevoke, pki.Superseded, 0))
	}
	first.await(t, a.append(t, long...))
	first.stop()
	_, want, _ := first.Document(a.shard())

	right := a.config()
	right.Signer = nil
	wrong := right
	wrong.KeyID = []byte("another")
	var changed atomic.Bool
	c := &clock{}
	p := start(t, s, c, func(config *crlserver.Config) {
		config.Issuers = func() []crlserver.Issuer {
			if changed.Load() {
				return []crlserver.Issuer{right}
			}
			return []crlserver.Issuer{wrong}
		}
	})
	if _, head, ok := p.Document(a.shard()); ok {
		t.Fatalf("number %d is served", head.Number)
	}
	changed.Store(true)
	p.Reload()
	c.move(time.Minute)
	eventually(t, "the list", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Number == want.Number })
}
