package crlserver_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// A clock that leaps ahead of the end of a week and is set back: what was revoked is on every list that is made since, the
// numbers have grown, no list is from the future, and an instance whose clock was right all the time comes to the same.
func TestClockLeapsOverWeeks(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Leaping CA")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		c := &clock{}
		p := start(t, s, c, nil, issuer)
		p.await(t, a.revoke(t, 1))
		steady := issuer
		steady.Signer = nil
		reader := start(t, s, &clock{}, nil, steady)
		number := func(l crlserver.List) uint64 { _, head, _ := p.Document(l); return head.Number }
		before := number(a.complete())

		const leap = 500 * 24 * time.Hour
		c.move(leap)
		eventually(t, "the last list of the week", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Final })
		eventually(t, "a complete list without the week", func() bool { _, head, _ := p.Document(a.complete()); return head.Entries == 0 })
		eventually(t, "the other instance has adopted it", func() bool { _, head, _ := reader.Document(a.complete()); return head.Entries == 0 })
		leapt := number(a.complete())
		seq := a.revoke(t, 2) // whose week seems to have passed
		eventually(t, "it is read", func() bool { return p.Seq() >= seq })
		c.move(-leap)

		for _, i := range []instance{p, reader} {
			for _, l := range []crlserver.List{a.shard(), a.complete(), a.delta()} {
				eventually(t, "the list is right again", func() bool {
					_, head, ok := i.Document(l)
					return ok && !head.Final && head.Seq >= seq && !head.ThisUpdate.After(time.Now())
				})
				if l == a.delta() {
					continue // its base may have both already
				}
				read := i.list(t, a, l)
				for index := range uint64(2) {
					if _, ok := has(read, epoch, index+1); !ok {
						t.Errorf("%s lacks certificate %d", l, index+1)
					}
				}
			}
		}
		if after := number(a.complete()); leapt <= before || after <= leapt {
			t.Errorf("numbers of the complete list: %d, %d, %d", before, leapt, after)
		}
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/crl/"+a.shard().String(), nil))
		if list, err := crl.Parse(w.Body.Bytes()); w.Code != 200 || err != nil || list.Len() != 2 {
			t.Errorf("the shard is served with status %d (%v)", w.Code, err)
		}
		p.await(t, a.append(t, a.event(epoch, 3, 1, pki.Superseded, 0)))
		if _, ok := has(p.list(t, a, a.shard()), epoch, 3); !ok {
			t.Error("a later revocation is not on the shard")
		}
	})
}
