package storetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// books are a store with one issuer, and what a process needs to reserve and record in it.
type books struct {
	t   *testing.T
	s   store.Store
	key pki.KeyHash
	at  time.Time
}

const testEpoch = pki.Epoch(400)

func newBooks(t *testing.T, s store.Store) *books {
	t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	spki := []byte{0x30, 2, 5, 1}
	key := pki.HashSPKI(spki)
	err := s.CreateIssuer(t.Context(), ca.Issuer{ID: key.Issuer(), Label: "one", KeyURI: "softkey:one", Subject: []byte{0x30, 1, 1}, SPKI: spki, KeyHash: key,
		State: ca.IssuerPending, BaseURL: "http://pki.test", CreatedAt: at}, audit.Event{At: at, Actor: "system:test", Action: "issuer.create", Target: "issuer", Outcome: audit.OK})
	if err != nil {
		t.Fatal(err)
	}
	return &books{t, s, key, at}
}

func ownerID(n byte) ca.OwnerID { return ca.OwnerID{n, 1} }

func (b *books) reserve(owner byte, count uint64, lease time.Duration) ca.Range {
	b.t.Helper()
	r, err := b.s.Reserve(b.t.Context(), ca.Reservation{Issuer: b.key.Issuer(), Epoch: testEpoch, Count: count, Nonce: pki.RangeNonce{owner},
		Owner: ownerID(owner), Lease: lease})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *books) rangeKey(r ca.Range) pki.RangeKey {
	return pki.NewRangeKey(pki.SerialSecret{7}, r.Nonce, b.key, r.Epoch, r.KeyFrom)
}

func (b *books) serial(r ca.Range, index uint64) pki.Serial {
	return pki.NewSerial(b.rangeKey(r), b.key, pki.Position{Epoch: r.Epoch, Index: index})
}

func (b *books) close(r ca.Range, closer byte, unsigned ...ca.Run) (int, error) {
	c := ca.Closing{Range: r.ID, Closer: ownerID(closer), Key: b.rangeKey(r), Unsigned: unsigned,
		Event: audit.Event{At: b.at, Actor: "system:test", Action: "range.void", Target: "issuer", Outcome: audit.OK}}
	for index := r.From; index < r.To; index++ {
		c.Serials = append(c.Serials, b.serial(r, index))
	}
	return b.s.CloseRange(b.t.Context(), c)
}

func (b *books) entry(r ca.Range, index uint64) ca.Entry {
	return ca.Entry{
		Certificate: inventory.Certificate{Issuer: r.Issuer, Position: pki.Position{Epoch: r.Epoch, Index: index}, Serial: b.serial(r, index), Profile: "server", Account: "web",
			Subject: "CN=x", KeyHash: pki.KeyHash{1, byte(index)}, NotBefore: b.at, NotAfter: time.Unix(r.Epoch.Start(), 0).UTC(), IssuedAt: b.at, DER: certificateFor(b.t, fmt.Sprintf("n%d.example.com", index))},
		Range: r.ID, KeyMaterial: pki.KeyHash{2, byte(index)}, Names: []inventory.Name{{Type: pki.DNS, Value: fmt.Sprintf("n%d.example.com", index)}},
		Event: audit.Event{At: b.at, Actor: "token:web", Action: "certificate.issue", Target: fmt.Sprint(index), Outcome: audit.OK},
	}
}

// certificateFor is a certificate with one name; nothing else of it counts here.
func certificateFor(t *testing.T, name string) []byte {
	t.Helper()
	return certificateWith(t, []inventory.Name{{Type: pki.DNS, Value: name}})
}

// certificateWith is a certificate with DNS names and mailboxes.
func certificateWith(t *testing.T, names []inventory.Name) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	for _, name := range names {
		switch name.Type {
		case 0:
			template.Subject.CommonName = name.Value
		case pki.DNS:
			template.DNSNames = append(template.DNSNames, name.Value)
		case pki.Email:
			template.EmailAddresses = append(template.EmailAddresses, name.Value)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (b *books) record(owner byte, entries ...ca.Entry) []ca.Outcome {
	b.t.Helper()
	outcomes, err := b.s.Record(b.t.Context(), ownerID(owner), entries)
	if err != nil {
		b.t.Fatal(err)
	}
	return outcomes
}

// voids are the void indices that the ledger knows.
func (b *books) voids() map[uint64]pki.Serial {
	b.t.Helper()
	entries, err := b.s.LedgerEntries(b.t.Context(), 0, 10_000)
	if err != nil {
		b.t.Fatal(err)
	}
	found := make(map[uint64]pki.Serial)
	for _, e := range entries {
		if e.Kind == revocation.KindVoid {
			found[e.Position.Index] = e.Serial
		}
	}
	return found
}

// cover fails unless the ranges of the epoch stand side by side from 0 to end, and returns them as "from-to state".
func (b *books) cover(end uint64) string {
	b.t.Helper()
	var text string
	var next uint64
	for r, err := range b.s.ChangedRanges(b.t.Context(), 0, time.Time{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		if r.Epoch != testEpoch {
			continue
		}
		if r.From != next {
			b.t.Errorf("a range begins at %d, the one before it ended at %d", r.From, next)
		}
		next = r.To
		text += fmt.Sprintf("%d-%d %d; ", r.From, r.To, r.State)
	}
	if next != end {
		b.t.Errorf("ranges end at %d, want %d", next, end)
	}
	return text
}

// testRange holds a store to ca.RangeStore.
func testRange(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("indices are handed out once, dense and inside a block", func(t *testing.T) {
		b := newBooks(t, open(t))
		first, second := b.reserve(1, 16, time.Minute), b.reserve(2, pki.BlockSize, time.Minute)
		if first.From != 0 || first.To != 16 || second.From != 16 || second.To != pki.BlockSize || second.ID <= first.ID || second.KeyFrom != 16 {
			t.Errorf("reserved %+v and %+v", first, second)
		}
		if third := b.reserve(1, 16, time.Minute); third.From != pki.BlockSize {
			t.Errorf("the next block begins at %d", third.From)
		}
	})

	t.Run("what the owner never signed is reserved again", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 16, time.Minute)
		b.record(1, b.entry(r, 0), b.entry(r, 1), b.entry(r, 4))
		known := revocation.NewEntry{Entry: revocation.Entry{Issuer: r.Issuer, Serial: b.serial(r, 6), Position: pki.Position{Epoch: r.Epoch, Index: 6}, Kind: revocation.KindRevoke, RevokedAt: b.at, Actor: "token:web"}}
		elsewhere := known
		elsewhere.Serial[19], elsewhere.Position = ^known.Serial[19], pki.Position{Epoch: r.Epoch + 1, Index: 5}
		if _, err := b.s.AppendLedger(t.Context(), 0, []revocation.NewEntry{known, elsewhere}, nil); err != nil { // it is on the lists already
			t.Fatal(err)
		}
		if n, err := b.close(r, 1, ca.Run{From: 2, To: 4}, ca.Run{From: 7, To: 16}); err != nil || n != 1 {
			t.Fatalf("closing made %d void (%v), want index 5 alone", n, err)
		}
		if void := b.voids(); len(void) != 1 || void[5] != b.serial(r, 5) {
			t.Errorf("void: %v", void)
		}
		if got, want := b.cover(16), "0-2 2; 2-4 3; 4-7 2; 7-16 3; "; got != want {
			t.Errorf("ranges %s, want %s", got, want)
		}
		if again := b.reserve(2, 16, time.Minute); again.From != 2 || again.To != 4 || again.KeyFrom != 2 {
			t.Errorf("reserved again: %+v", again)
		}
		if again := b.reserve(2, 4, time.Minute); again.From != 7 || again.To != 11 {
			t.Errorf("reserved again: %+v", again)
		}
		other, err := b.s.Reserve(t.Context(), ca.Reservation{Issuer: b.key.Issuer(), Epoch: testEpoch + 1, Count: 4, Owner: ownerID(2), Lease: time.Minute})
		if err != nil || other.From != 0 || other.To != 4 {
			t.Errorf("of another week: %+v, %v", other, err)
		}
		b.cover(16)
		if n, err := b.close(r, 1); err != nil || n != 0 {
			t.Errorf("closing twice: %d, %v", n, err)
		}
	})

	t.Run("a block has one base URL", func(t *testing.T) {
		b := newBooks(t, open(t))
		move := func(url string) {
			t.Helper()
			if err := b.s.UpdateIssuer(t.Context(), b.key.Issuer(), ca.IssuerChange{BaseURL: &url}, audit.Event{At: b.at, Actor: "system:test", Action: "issuer.update", Target: "issuer", Outcome: audit.OK}); err != nil {
				t.Fatal(err)
			}
		}
		first := b.reserve(1, 16, time.Minute)
		b.record(1, b.entry(first, 0))
		if _, err := b.close(first, 1, ca.Run{From: 1, To: 16}); err != nil {
			t.Fatal(err)
		}
		move("http://moved.test")
		second := b.reserve(1, 16, time.Minute)
		third := b.reserve(1, pki.BlockSize, time.Minute)
		if first.BaseURL != "http://pki.test" || second.BaseURL != "http://moved.test" || second.From != pki.BlockSize || third.From != second.To || third.To != 2*pki.BlockSize {
			t.Errorf("reserved %+v, %+v and %+v", first, second, third)
		}
		move("http://pki.test")
		if back := b.reserve(1, 16, time.Minute); back.From != 1 || back.To != 16 || back.BaseURL != "http://pki.test" {
			t.Errorf("what was free under the first URL: %+v", back)
		}
		if back := b.reserve(1, 16, time.Minute); back.From != 2*pki.BlockSize || back.BaseURL != "http://pki.test" {
			t.Errorf("after a full block: %+v", back)
		}
		if got, want := b.cover(2*pki.BlockSize+16), "0-1 2; 1-16 1; 16-16384 4; 16384-16400 1; 16400-32768 1; 32768-32784 1; "; got != want {
			t.Errorf("ranges %s, want %s", got, want)
		}
		bases, _, err := b.s.ShardBases(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		urls := map[uint32]string{}
		for _, base := range bases {
			urls[base.Shard.Block] += base.URL
		}
		if len(urls) != 3 || urls[0] != "http://pki.test" || urls[1] != "http://moved.test" || urls[2] != "http://pki.test" {
			t.Errorf("base URLs by block: %v", urls)
		}
	})

	t.Run("nobody closes a range under its lease", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 4, time.Minute)
		if _, err := b.close(r, 2); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("closed under a lease: %v", err)
		}
		if expired, err := b.s.ExpiredRanges(t.Context(), 0, 10); err != nil || len(expired) != 0 {
			t.Errorf("expired: %v, %v", expired, err)
		}
		if mine, err := b.s.OpenRanges(t.Context(), ownerID(1)); err != nil || len(mine) != 1 || mine[0] != r {
			t.Errorf("of its owner: %+v (%v), want %+v", mine, err, r)
		}
		if others, err := b.s.OpenRanges(t.Context(), ownerID(2)); err != nil || len(others) != 0 {
			t.Errorf("of another: %+v, %v", others, err)
		}
		if n, err := b.s.RenewLeases(t.Context(), ownerID(9), -time.Second); err != nil || n != 0 {
			t.Errorf("renewed %d leases of another: %v", n, err)
		}
		if n, err := b.s.RenewLeases(t.Context(), ownerID(1), -time.Second); err != nil || n != 1 {
			t.Fatalf("renewed %d leases: %v", n, err)
		}
		expired, err := b.s.ExpiredRanges(t.Context(), 0, 10)
		if err != nil || len(expired) != 1 || expired[0] != r {
			t.Fatalf("expired: %+v (%v), want %+v", expired, err, r)
		}
		if expired, err := b.s.ExpiredRanges(t.Context(), r.ID, 10); err != nil || len(expired) != 0 {
			t.Errorf("expired after it: %v, %v", expired, err)
		}
		if _, err := b.close(r, 2, ca.Run{From: 0, To: 1}); pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Errorf("another claims to know what was signed: %v", err)
		}
		if n, err := b.close(r, 2); err != nil || n != 4 {
			t.Errorf("%d void, want 4: %v", n, err)
		}
		if open, err := b.s.OpenRanges(t.Context(), ownerID(1)); err != nil || len(open) != 0 {
			t.Errorf("open after it was closed: %+v, %v", open, err)
		}
		if n, err := b.close(r, 1, ca.Run{From: 0, To: 4}); err != nil || n != 0 {
			t.Errorf("closed by another, and then by its owner: %d void, %v", n, err)
		}
		if n, err := b.s.RenewLeases(t.Context(), ownerID(1), time.Minute); err != nil || n != 0 {
			t.Errorf("renewed %d leases of what is closed: %v", n, err)
		}
		if outcome := b.record(1, b.entry(r, 0)); outcome[0] != ca.RangeLost {
			t.Errorf("recorded in a closed range: %v", outcome)
		}
		if events, err := b.s.AuditHead(t.Context()); err != nil || events.Seq != 2 {
			t.Errorf("%d audit events, want 2 (%v)", events.Seq, err)
		}
	})

	t.Run("an unsigned index that is recorded is a bug and closes nothing", func(t *testing.T) {
		b := newBooks(t, open(t))
		r := b.reserve(1, 4, time.Minute)
		b.record(1, b.entry(r, 0))
		if _, err := b.close(r, 1, ca.Run{From: 0, To: 4}); pki.KindOf(err) != pki.KindInternal || err == nil {
			t.Errorf("got %v", err)
		}
		if got := b.cover(4); got != "0-4 1; " {
			t.Errorf("ranges %s", got)
		}
	})

	// The race that decides whether a certificate can leave while its index becomes void. It fails without the row lock
	// of signet_record, and if signet_range_close reads what is recorded before it has its own.
	t.Run("record against close", func(t *testing.T) {
		b := newBooks(t, open(t))
		const rounds, each = 12, 6
		var wg sync.WaitGroup
		for range rounds {
			r := b.reserve(1, each, -time.Second)
			outcomes := make([]ca.Outcome, each)
			for i := range uint64(each) {
				wg.Go(func() { outcomes[i] = b.record(1, b.entry(r, r.From+i))[0] })
			}
			wg.Go(func() {
				if _, err := b.close(r, 2); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			void := b.voids()
			for i, outcome := range outcomes {
				_, isVoid := void[r.From+uint64(i)]
				if (outcome == ca.Recorded) == isVoid {
					t.Fatalf("index %d: outcome %d, void %v", r.From+uint64(i), outcome, isVoid)
				}
			}
		}
	})

	t.Run("many instances open epochs at once", func(t *testing.T) {
		b := newBooks(t, open(t))
		var wg sync.WaitGroup
		for n := range 12 {
			wg.Go(func() {
				_, err := b.s.Reserve(t.Context(), ca.Reservation{Issuer: b.key.Issuer(), Epoch: testEpoch + pki.Epoch(n/3), Count: 4, Owner: ownerID(byte(n)), Lease: time.Minute})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// RangesAfterSetBack holds a store to this: what changes after the clock was set back is seen by whoever asks for what
// changed since. leap makes what was written so far look as if it were of a later time.
func RangesAfterSetBack(t *testing.T, s store.Store, leap func()) {
	b := newBooks(t, s)
	read := func(since time.Time) (latest time.Time, states string) { // a star: it changed since
		t.Helper()
		latest = since
		for r, err := range b.s.ChangedRanges(t.Context(), 0, since) {
			if err != nil {
				t.Fatal(err)
			}
			changed := ""
			if r.At.After(since) {
				changed = "*"
			}
			if r.At.After(latest) {
				latest = r.At
			}
			states += fmt.Sprintf("%d-%d %d%s; ", r.From, r.To, r.State, changed)
		}
		return latest, states
	}
	first := b.reserve(1, 16, time.Minute)
	leap()
	since, _ := read(time.Time{})
	second := b.reserve(1, 16, time.Minute)
	at, states := read(since)
	if states != "0-16 1; 16-32 1*; " || !at.After(since) {
		t.Errorf("after a reservation: %s", states)
	}
	if _, err := b.close(second, 1, ca.Run{From: 16, To: 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.close(first, 1); err != nil {
		t.Fatal(err)
	}
	after, states := read(at)
	if states != "0-16 2*; 16-20 3*; 20-32 2*; " || !after.After(at) {
		t.Errorf("after closing: %s", states)
	}
	b.reserve(1, 2, time.Minute)
	if _, states := read(after); states != "0-16 2; 16-18 1*; 18-20 3*; 20-32 2; " {
		t.Errorf("after what was free was reserved again: %s", states)
	}
}

// IndicesEnd holds a store to this: the last index of a week is given, and none behind it. near puts the week within 16 of its end.
func IndicesEnd(t *testing.T, s store.Store, near func()) {
	b := newBooks(t, s)
	b.reserve(1, 1, time.Minute)
	near()
	if last := b.reserve(1, 16, time.Minute); last.To != pki.MaxIndex+1 {
		t.Errorf("the last indices: %+v", last)
	}
	_, err := s.Reserve(t.Context(), ca.Reservation{Issuer: b.key.Issuer(), Epoch: testEpoch, Count: 1, Owner: ownerID(1), Lease: time.Minute})
	if pki.KindOf(err) != pki.KindExhausted {
		t.Errorf("behind the last: %v", err)
	}
}
