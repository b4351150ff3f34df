package revocation_test

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
)

func TestMain(m *testing.M) {
	if database := os.Getenv(jobEnv); database != "" {
		if err := runJobUntilKilled(database); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("25") // a number; each check is a whole history against a real database
	}
	testdb.Main(m)
}

// now is the instant that the tests of this package live at: within week 358, where epoch 400 is far ahead.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

const epoch = pki.Epoch(400)

// issuer is an issuer in a store, with the hands of the ca room: it reserves, records and closes.
type issuer struct {
	store store.Store
	key   pki.KeyHash
	id    pki.IssuerID
	k     pki.SerialSecret
	made  map[pki.Epoch]bool // partitions
	at    int64              // counts changes of ranges, so that their times differ
}

// span is a range reserved by an issuer.
type span struct {
	issuer   *issuer
	epoch    pki.Epoch
	from, to uint64
	key      pki.RangeKey
}

func newIssuer(t testing.TB, s store.Store, name string, public bool) *issuer {
	t.Helper()
	i := &issuer{store: s, key: sha256.Sum256([]byte(name)), k: sha256.Sum256([]byte("secret of " + name)), made: map[pki.Epoch]bool{}}
	i.id = i.key.Issuer()
	visibility := 0
	if public {
		visibility = 1
	}
	testdb.Exec(t, s, `INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, base_url, created_at)
		VALUES ($1, $2, '', $3, $4, $5, $6, 1, 'http://ca.example', $7)`,
		i.id[:], name, []byte(name), []byte(name), i.key[:], visibility, i.time())
	return i
}

// time is the next instant, in the form of the store's columns.
func (i *issuer) time() any {
	i.at++
	return i.dbTime(now.Add(time.Duration(i.at) * time.Millisecond))
}

func (i *issuer) dbTime(at time.Time) any {
	if _, ok := i.store.(*postgres.Store); ok {
		return at
	}
	return at.UnixMicro()
}

// reserve opens a range.
func (i *issuer) reserve(t testing.TB, epoch pki.Epoch, from, to uint64) span {
	t.Helper()
	nonce := pki.RangeNonce{byte(i.at), byte(i.at >> 8)}
	testdb.Exec(t, i.store, `DELETE FROM ranges WHERE issuer = $1 AND epoch = $2 AND from_idx = $3 AND state = 3`, i.id[:], int64(epoch), int64(from))
	testdb.Exec(t, i.store, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		VALUES ($1, $2, $3, $4, 1, $3, $5, $6, '', $7, $7)`, i.id[:], int64(epoch), int64(from), int64(to), nonce[:], make([]byte, 16), i.time())
	if _, ok := i.store.(*postgres.Store); ok && !i.made[epoch] {
		testdb.Exec(t, i.store, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS certificates_%d PARTITION OF certificates FOR VALUES IN (%[1]d)`, epoch))
		i.made[epoch] = true
	}
	testdb.Exec(t, i.store, `INSERT INTO epochs (issuer, epoch, next_idx) VALUES ($1, $2, $3) ON CONFLICT (issuer, epoch) DO UPDATE SET next_idx = excluded.next_idx
		WHERE epochs.next_idx < excluded.next_idx`, i.id[:], int64(epoch), int64(to))
	return span{i, epoch, from, to, pki.NewRangeKey(i.k, nonce, i.key, epoch, from)}
}

// serial is that of the certificate at an index.
func (s span) serial(index uint64) pki.Serial {
	return pki.NewSerial(s.key, s.issuer.key, pki.Position{Epoch: s.epoch, Index: index})
}

func (s span) claim(index uint64) revocation.Claim {
	return revocation.Claim{Key: revocation.Key{Issuer: s.issuer.id, Serial: s.serial(index)}, Position: pki.Position{Epoch: s.epoch, Index: index}, Dense: true}
}

// record records certificates of account "alice".
func (s span) record(t testing.TB, indices ...uint64) {
	t.Helper()
	for _, index := range indices {
		serial := s.serial(index)
		end := s.issuer.dbTime(time.Unix(s.epoch.Start()+3600, 0))
		testdb.Exec(t, s.issuer.store, `INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der)
			VALUES ($1, $2, $3, $4, 1, 'server', 'alice', '', $5, $6, $7, $6, $5)`,
			s.issuer.id[:], int64(s.epoch), int64(index), serial[:], keyOf(index), s.issuer.dbTime(now), end)
	}
}

// keyOf is the hash of the key that the certificate at an index carries.
func keyOf(index uint64) []byte {
	hash := sha256.Sum256([]byte{byte(index)})
	return hash[:]
}

// close closes a range: what is void is voided, the tail from signed on is given back.
func (s span) close(t testing.TB, signed uint64, voids ...uint64) {
	t.Helper()
	var entries []revocation.NewEntry
	for _, index := range voids {
		entries = append(entries, revocation.NewEntry{Entry: revocation.Entry{Issuer: s.issuer.id, Serial: s.serial(index),
			Position: pki.Position{Epoch: s.epoch, Index: index}, Kind: revocation.KindVoid, RevokedAt: now, Actor: "system:reconcile"}})
	}
	if _, err := s.issuer.store.AppendLedger(t.Context(), 0, entries, nil); err != nil {
		t.Fatal(err)
	}
	at := s.issuer.time()
	place := []any{s.issuer.id[:], int64(s.epoch), int64(s.from)}
	if signed == s.from {
		testdb.Exec(t, s.issuer.store, `UPDATE ranges SET state = 3, changed_at = $4 WHERE issuer = $1 AND epoch = $2 AND from_idx = $3`, append(place, at)...)
		return
	}
	testdb.Exec(t, s.issuer.store, `UPDATE ranges SET state = 2, to_idx = $4, range_key = $5, changed_at = $6 WHERE issuer = $1 AND epoch = $2 AND from_idx = $3`,
		append(place, int64(signed), s.key[:], at)...)
	if signed < s.to {
		testdb.Exec(t, s.issuer.store, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
			VALUES ($1, $2, $3, $4, 3, $3, $5, $5, '', $6, $6)`, s.issuer.id[:], int64(s.epoch), int64(signed), int64(s.to), make([]byte, 16), at)
	}
}

// newUniverse loads a universe that lives at now.
func newUniverse(t testing.TB, s store.Store) *revocation.Universe {
	t.Helper()
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return u
}

func newLedger(t testing.TB, s store.Store, u *revocation.Universe) *revocation.Ledger {
	t.Helper()
	l, err := revocation.NewLedger(revocation.LedgerConfig{Store: s, Keys: s, Universe: u, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func grant(t testing.TB, role auth.Role, account string, action auth.Action) auth.Grant {
	t.Helper()
	g, err := (auth.Principal{ID: "token:" + account, Account: account, Role: role, RequestID: "r1"}).AuthorizeOwn(action)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func admin(t testing.TB) auth.Grant { return grant(t, auth.RoleAdmin, "root", auth.ActionRevoke) }

// wantKind fails the test unless err has this kind.
func wantKind(t testing.TB, what string, err error, kind pki.Kind) {
	t.Helper()
	if err == nil || pki.KindOf(err) != kind {
		t.Errorf("%s: %v; want %s", what, err, kind)
	}
}

// lookup is Lookup that must not fail.
func lookup(t testing.TB, u *revocation.Universe, id pki.IssuerID, serial pki.Serial) revocation.Answer {
	t.Helper()
	answer, err := u.Lookup(t.Context(), id, serial)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

var errBroken = errors.New("broken on purpose")
