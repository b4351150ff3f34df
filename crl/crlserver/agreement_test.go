package crlserver_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/sqlite"
)

// TestAgreement: whatever happens in whatever order, complete list, shards, and base plus delta say what the ledger
// says at their sequence, to three readers: ours, crypto/x509 and OpenSSL, which also verifies a certificate of every serial
// number by each of them.
func TestAgreement(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		random := rand.New(rand.NewPCG(2, uint64(len(t.Name()))))
		a := newAuthority(t, s, "Agreeing CA")
		issuer := a.config()
		issuer.Delta = true
		p := start(t, s, &clock{}, nil, issuer)
		ledger, openssl := newLedgerModel(a), newRelyingParty(t, a)
		everything := func(pki.Shard) bool { return true }
		read := func(l crlserver.List) []byte {
			document, _, _ := p.Document(l)
			threeReaders(t, document.Bytes())
			return document.Bytes()
		}
		type kept struct {
			*crl.List
			der []byte
		}
		var bases []kept
		for range 12 {
			var batch []revocation.NewEntry
			for range 1 + random.IntN(8) {
				batch = append(batch, ledger.next(random)...)
			}
			if len(batch) == 0 {
				continue
			}
			last := a.append(t, batch...)
			ledger.applied(batch, last)
			p.await(t, last)
			full := kept{p.list(t, a, a.complete()), read(a.complete())}
			ledger.agrees(t, full.List, nil, everything)
			openssl.agrees(t, ledger, everything, full.der)
			bases = append(bases, full)
			var shards [][]byte
			for shard := range ledger.shards {
				list := crlserver.List{Series: crlserver.Series{Issuer: a.issuer, Shard: shard, Sharded: true}, Kind: crlserver.KindShard}
				ledger.agrees(t, p.list(t, a, list), nil, func(s pki.Shard) bool { return s == shard })
				shards = append(shards, read(list))
			}
			openssl.agrees(t, ledger, func(s pki.Shard) bool { return ledger.shards[s] }, shards...)
			eventually(t, "a delta", func() bool { _, _, ok := p.Document(a.delta()); return ok })
			delta := kept{p.list(t, a, a.delta()), read(a.delta())}
			for _, base := range bases {
				if base.AcceptsDelta(delta.List) == nil {
					ledger.agrees(t, base.List, delta.List, everything)
				}
			}
			if base := bases[random.IntN(len(bases))]; base.AcceptsDelta(delta.List) == nil {
				openssl.agrees(t, ledger, everything, base.der, delta.der)
			}
		}
	})
}

// ledgerModel is the last entry of every certificate, kept in the plainest way.
type ledgerModel struct {
	authority *authority
	last      map[pki.Position]revocation.Entry
	shards    map[pki.Shard]bool
}

func newLedgerModel(a *authority) *ledgerModel {
	return &ledgerModel{a, make(map[pki.Position]revocation.Entry), make(map[pki.Shard]bool)}
}

// modelPositions are 40 certificates in four shards of two weeks.
func modelPositions() (all []pki.Position) {
	for e := range pki.Epoch(2) {
		for block := range uint64(2) {
			for i := range uint64(10) {
				all = append(all, pki.Position{Epoch: epoch + e, Index: block*pki.BlockSize + i})
			}
		}
	}
	return all
}

// next draws a legal change of one of the certificates.
func (m *ledgerModel) next(random *rand.Rand) []revocation.NewEntry {
	all := modelPositions()
	p := all[random.IntN(len(all))]
	was, known := m.last[p]
	if known && was.Seq == 0 {
		return nil // changed in this batch already
	}
	e := m.authority.event(p.Epoch, p.Index, revocation.KindRevoke, pki.Superseded, was.Seq)
	switch {
	case known && was.Kind == revocation.KindHold && random.IntN(2) == 0:
		e.Kind, e.Reason = revocation.KindRelease, pki.Unspecified
	case known && was.Kind == revocation.KindRevoke:
		e.Kind, e.Reason, e.RevokedAt = revocation.KindReasonChange, pki.KeyCompromise, was.RevokedAt
	case known && (was.Kind == revocation.KindVoid || was.Kind == revocation.KindReasonChange):
		return nil
	case (!known || was.Kind == revocation.KindRelease) && random.IntN(2) == 0:
		e.Kind, e.Reason = revocation.KindHold, pki.CertificateHold
	case !known && random.IntN(5) == 0:
		e.Kind, e.Reason = revocation.KindVoid, pki.Unspecified
	}
	if e.Kind == revocation.KindRevoke && random.IntN(3) == 0 {
		e.InvalidityAt = e.RevokedAt.Add(-time.Hour)
	}
	e.Entry.Seq = 0
	m.last[p] = e.Entry
	m.shards[p.Shard()] = true
	return []revocation.NewEntry{e}
}

// applied gives the entries of a batch the sequences they got.
func (m *ledgerModel) applied(batch []revocation.NewEntry, last uint64) {
	for i, e := range batch {
		e.Entry.Seq = last - uint64(len(batch)-1-i)
		m.last[e.Position] = e.Entry
	}
}

// revoked are the serials that must be listed.
func (m *ledgerModel) revoked(in func(pki.Shard) bool) map[pki.Serial]revocation.Entry {
	revoked := make(map[pki.Serial]revocation.Entry)
	for p, e := range m.last {
		if e.Kind.Revokes() && in(p.Shard()) {
			revoked[e.Serial] = e
		}
	}
	return revoked
}

// agrees compares a list, brought up to date by a delta if there is one, with the model.
func (m *ledgerModel) agrees(t *testing.T, base, delta *crl.List, in func(pki.Shard) bool) {
	t.Helper()
	listed := make(map[pki.Serial]crl.Entry)
	for e := range base.Entries() {
		listed[must(pki.SerialFromBytes(e.Serial))] = e
	}
	if delta != nil {
		for e := range delta.Entries() {
			if e.Reason == pki.RemoveFromCRL {
				delete(listed, must(pki.SerialFromBytes(e.Serial)))
			} else {
				listed[must(pki.SerialFromBytes(e.Serial))] = e
			}
		}
	}
	want := m.revoked(in)
	if len(listed) != len(want) {
		t.Fatalf("%d entries, want %d (number %s)", len(listed), len(want), base.Number)
	}
	for s, e := range want {
		if got := listed[s]; got.Reason != e.Reason || !got.RevokedAt.Equal(e.RevokedAt) || !got.InvalidityAt.Equal(e.InvalidityAt) {
			t.Fatalf("%s is listed as %+v, want %+v", s, got, e)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Every kind of list agrees with the ledger, after every kind of event; a ledger that was altered is noticed, and so is a
// list that another key signed.
func TestCompare(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		p := start(t, s, &clock{}, nil, issuer)
		p.await(t, a.revoke(t, 1))
		lists := []crlserver.List{a.shard(), a.complete(), a.delta()}
		compare := func(what string, disagree bool) {
			t.Helper()
			for _, list := range lists {
				err := p.Compare(t.Context(), list)
				if _, ok := errors.AsType[*crlserver.DisagreementError](err); ok != disagree || (err != nil) != disagree {
					t.Errorf("%s: %s: %v", what, list, err)
				}
			}
		}
		compare("one revoked", false)
		foreign := a.event(0, 99, revocation.KindRevoke, pki.KeyCompromise, 0)
		foreign.Foreign = true
		seq := a.append(t, a.event(epoch, 2, revocation.KindHold, pki.CertificateHold, 0), a.event(epoch, 3, revocation.KindHold, pki.CertificateHold, 0),
			a.event(epoch, 4, revocation.KindVoid, 0, 0), foreign)
		p.await(t, seq)
		compare("holds, a void and a foreign serial", false)
		third := a.event(epoch, 3, revocation.KindRevoke, pki.Superseded, seq-2)
		p.await(t, a.append(t, a.event(epoch, 2, revocation.KindRelease, 0, seq-3), third,
			a.event(epoch, 1, revocation.KindReasonChange, pki.KeyCompromise, 1)))
		compare("a release, a succession and a change of reason", false)

		stranger := newAuthority(t, s, "two")
		other := stranger.config()
		swapped := issuer
		swapped.Public, swapped.Signer = other.Public, nil
		reader := start(t, s, &clock{}, nil, swapped)
		eventually(t, "the reader has the shard", func() bool { _, _, ok := reader.Document(a.shard()); return ok })
		if err := reader.Compare(t.Context(), a.shard()); err == nil {
			t.Error("a list that the issuer's key did not sign agrees")
		}

		if _, ok := s.(*sqlite.Store); ok {
			testdb.Exec(t, s, `DROP TRIGGER ledger_no_update`)
		} else {
			testdb.Exec(t, s, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
		}
		// The same certificates, of which something else is said, and what only a delta says: that a hold is over.
		at := a.time(time.Now().Add(-time.Hour).Truncate(time.Second))
		alter := func(what, set, back string, listed bool, args ...any) {
			t.Helper()
			testdb.Exec(t, s, `UPDATE ledger SET `+set, args...)
			if listed {
				compare(what, true)
			} else {
				everything := lists
				lists = everything[:2]
				compare(what+", which is on no list", false)
				lists = everything[2:]
				compare(what, true)
				lists = everything
			}
			testdb.Exec(t, s, `UPDATE ledger SET `+back, args...)
			compare(what+", and back", false)
		}
		odd := serial(epoch, 77)
		alter("another reason", `reason = 5 WHERE idx = 3 AND kind = 1`, `reason = 4 WHERE idx = 3 AND kind = 1`, true)
		alter("a time of invalidity", `invalidity_at = $1 WHERE idx = 3 AND kind = 1`, `invalidity_at = NULL WHERE idx = 3 AND kind = 1 AND invalidity_at = $1`, true, at)
		testdb.Exec(t, s, `UPDATE ledger SET revoked_at = $1 WHERE idx = 3 AND kind = 1`, at)
		compare("another time", true)
		testdb.Exec(t, s, `UPDATE ledger SET revoked_at = $1 WHERE idx = 3 AND kind = 1`, a.time(third.RevokedAt))
		released := serial(epoch, 2)
		alter("another that was released", `serial = $1 WHERE idx = 2 AND kind = 4 AND serial = $2`, `serial = $2 WHERE idx = 2 AND kind = 4 AND serial = $1`, false, odd[:], released[:])
		testdb.Exec(t, s, `UPDATE ledger SET serial = $1 WHERE idx = 3`, odd[:]) // as many, and not the same
		compare("another serial", true)
	})
}

// What OCSP answers from agrees with the lists, and it is noticed where it does not.
func TestCompareMemory(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "one")
		issuer := a.config()
		issuer.Delta = true
		p := start(t, s, &clock{}, nil, issuer)
		foreign := func(index uint64, kind revocation.Kind, reason pki.Reason, expected uint64) revocation.NewEntry {
			e := a.event(0, index, kind, reason, expected)
			e.Foreign = true
			return e
		}
		for i := range uint64(40) { // more than are looked at in one go
			a.append(t, foreign(100+i, revocation.KindRevoke, pki.Superseded, 0))
		}
		held := a.append(t, foreign(1, revocation.KindHold, pki.CertificateHold, 0), foreign(2, revocation.KindHold, pki.CertificateHold, 0))
		p.await(t, held)
		p.await(t, a.append(t, foreign(2, revocation.KindRelease, 0, held)))
		agrees := func(p instance, list crlserver.List) bool {
			err := p.CompareMemory(t.Context(), list)
			_, disagree := errors.AsType[*crlserver.DisagreementError](err)
			if err != nil && !disagree {
				t.Error(err)
			}
			return !disagree
		}
		for _, list := range []crlserver.List{a.complete(), a.delta()} {
			if !agrees(p, list) {
				t.Errorf("%s does not agree with memory that is right", list)
			}
		}
		if _, ok := s.(*sqlite.Store); ok {
			testdb.Exec(t, s, `DROP TRIGGER ledger_no_update`)
		} else {
			testdb.Exec(t, s, `ALTER TABLE ledger DISABLE TRIGGER append_only`)
		}
		issuer.Signer = nil
		for _, test := range []struct{ what, set, back string }{
			{"other reasons", `reason = 5 WHERE reason = 4`, `reason = 4 WHERE reason = 5`},
			{"all but one in force", `kind = 4 WHERE reason = 4`, `kind = 1 WHERE reason = 4`},
		} {
			testdb.Exec(t, s, `UPDATE ledger SET `+test.set)
			other := start(t, s, &clock{}, nil, issuer)
			testdb.Exec(t, s, `UPDATE ledger SET `+test.back)
			eventually(t, "it serves the complete list", func() bool { _, _, ok := other.Document(a.complete()); return ok })
			if agrees(other, a.complete()) {
				t.Errorf("%s in memory: it agrees", test.what)
			}
			other.stop()
		}
	})
}

// A damaged row of the ledger, with an index far beyond everything that was reserved, is compared like any other: a bit for every index up to it
// would be a gigabyte.
func TestCompareFarBeyond(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "one")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.append(t, a.event(epoch, 0, revocation.KindRevoke, pki.Superseded, 0), a.event(epoch, 1<<33, revocation.KindRevoke, pki.Superseded, 0)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := p.Compare(t.Context(), a.complete()); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("two entries took %d MiB", took>>20)
	}
}

// TestKill kills publishers at moments of chance and starts others: nothing goes back, and everything comes out.
func TestKill(t *testing.T) {
	url := testdb.URL(t)
	s := testdb.Open(t, url)
	a := newAuthority(t, s, "Killed CA")
	a.reserve(t, epoch, 0, base)
	random := rand.New(rand.NewPCG(5, 5))
	grown := make(map[crlserver.List]crlserver.Head)
	check := func() {
		heads, _, err := s.PublicationHeads(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range heads {
			if h.Number < grown[h.List].Number || h.Seq < grown[h.List].Seq {
				t.Fatalf("%s went back from %+v to %+v", h.List, grown[h.List], h)
			}
			grown[h.List] = h
		}
	}
	var last uint64
	for round := range uint64(4) {
		child := publisherProcess(t, url, a)
		for index := range uint64(15) {
			last = a.revoke(t, 100*round+index)
			check()
		}
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // the moment of chance
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // says only that it was killed
		check()
	}
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, last) // at most the lease of the one that was killed in the middle of it
	check()
	if l := p.list(t, a, a.shard()); l.Len() != 60 {
		t.Fatalf("%d entries", l.Len())
	}
	if document, _, _ := p.Document(a.shard()); !bytes.Equal(document.Bytes(), must(s.PublicationBytes(t.Context(), a.shard(), grown[a.shard()].Number))) {
		t.Fatal("what is served is not what was published")
	}
}
