package crlserver_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// TestPublishes follows one issuer from nothing through every kind of ledger entry.
func TestPublishes(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Publishing CA")
		p := start(t, s, &clock{}, nil, a.config())

		eventually(t, "the complete list of an issuer that issued nothing", func() bool { _, _, ok := p.Document(a.complete()); return ok })
		if l := p.list(t, a, a.complete()); l.Len() != 0 || l.IDP != nil {
			t.Fatalf("list is %+v", l)
		}
		a.reserve(t, epoch, 0, base)
		eventually(t, "the shard of a reserved range", func() bool { _, _, ok := p.Document(a.shard()); return ok })
		l := p.list(t, a, a.shard())
		if want := base + "/crl/" + a.issuer.String() + "/" + epoch.String() + "-0.crl"; l.IDP == nil || !l.IDP.OnlyUserCerts || l.IDP.URLs()[0] != want {
			t.Fatalf("scope is %+v", l.IDP)
		}

		p.await(t, a.revoke(t, 7))
		held := a.append(t, a.event(epoch, 8, revocation.KindHold, pki.CertificateHold, 0), a.event(epoch, 9, revocation.KindVoid, pki.Unspecified, 0))
		p.await(t, held)
		foreign := a.event(0, 99, revocation.KindRevoke, pki.KeyCompromise, 0)
		foreign.Foreign, foreign.Position = true, pki.Position{}
		p.await(t, a.append(t, foreign))
		for _, name := range []crlserver.List{a.shard(), a.complete()} {
			l := p.list(t, a, name)
			if reason, ok := has(l, epoch, 7); !ok || reason != pki.KeyCompromise {
				t.Errorf("%s: a revoked certificate: %t, %s", name, ok, reason)
			}
			if reason, ok := has(l, epoch, 8); !ok || reason != pki.CertificateHold {
				t.Errorf("%s: a held certificate: %t, %s", name, ok, reason)
			}
			if reason, ok := has(l, epoch, 9); !ok || reason != pki.Unspecified {
				t.Errorf("%s: a void index: %t, %s", name, ok, reason)
			}
			if _, ok := has(l, 0, 99); ok != (name.Kind == crlserver.KindComplete) {
				t.Errorf("%s: a foreign serial: %t", name, ok)
			}
		}
		released := a.append(t, a.event(epoch, 8, revocation.KindRelease, pki.Unspecified, held-1), a.event(epoch, 10, revocation.KindRevoke, pki.Superseded, 0))
		p.await(t, a.append(t, a.event(epoch, 10, revocation.KindReasonChange, pki.KeyCompromise, released)))
		for _, name := range []crlserver.List{a.shard(), a.complete()} {
			l := p.list(t, a, name)
			if reason, ok := has(l, epoch, 10); !ok || reason != pki.KeyCompromise {
				t.Errorf("%s: a reason that changed: %t, %s", name, ok, reason)
			}
			document, head, _ := p.Document(name)
			if der, err := s.PublicationBytes(t.Context(), name, head.Number); err != nil || string(der) != string(document.Bytes()) {
				t.Errorf("%s: a short list is not kept in the database: %v", name, err)
			}
		}
		if _, ok := has(p.list(t, a, a.shard()), epoch, 8); ok {
			t.Error("a released certificate is still listed")
		}
		openssl(t, p, a, a.shard())
		openssl(t, p, a, a.complete())
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	})
}

// openssl has OpenSSL verify a list as it is served.
func openssl(t *testing.T, p instance, a *authority, name crlserver.List) {
	t.Helper()
	dir := t.TempDir()
	document, _, _ := p.Document(name)
	write(t, filepath.Join(dir, "list.crl"), document.Bytes())
	write(t, filepath.Join(dir, "ca.der"), a.cert.Raw)
	for _, args := range [][]string{
		{"x509", "-inform", "DER", "-in", filepath.Join(dir, "ca.der"), "-out", filepath.Join(dir, "ca.pem")},
		{"crl", "-inform", "DER", "-in", filepath.Join(dir, "list.crl"), "-CAfile", filepath.Join(dir, "ca.pem"), "-noout", "-text"},
	} {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		if err != nil || args[0] == "crl" && !strings.Contains(string(out), "verify OK") {
			t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
		}
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReservationWakes: a list must be there when the first certificate that points to it is, so a reservation wakes
// whoever follows the ranges; the poll once a second would be too late.
func TestReservationWakes(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Reserving CA")
		woken, done := make(chan bool, 8), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			_ = s.ListenLedger(ctx, func(news revocation.WakeUp) { woken <- news.Ranges }) // ends with ctx
		}()
		<-woken // it listens
		if _, err := s.Reserve(t.Context(), ca.Reservation{Issuer: a.issuer, Epoch: epoch, Count: 16, Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if !<-woken {
			t.Error("the wake-up says that no range changed")
		}
		cancel()
		<-done
	})
}

// TestRestart: a new process serves the same octets before it publishes anything, and its numbers go on.
func TestRestart(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Restarted CA")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		first := start(t, s, &clock{}, nil, issuer)
		for index := range uint64(5) {
			a.revoke(t, index)
		}
		first.await(t, a.revoke(t, 6))
		first.stop()
		before := first.Lists()

		keyless := issuer
		keyless.Signer = nil
		second := start(t, s, &clock{}, nil, keyless)
		for i, list := range second.Lists() {
			if list.Head.Sum != before[i].Head.Sum {
				t.Errorf("%s is another after the restart", list.Head.List)
			}
			second.list(t, a, list.Head.List)
		}
		if len(second.Lists()) != 3 || len(before) != 3 {
			t.Fatalf("%d lists before, %d after", len(before), len(second.Lists()))
		}
		second.stop()

		third := start(t, s, &clock{}, nil, issuer)
		third.await(t, a.revoke(t, 50))
		for i, list := range third.Lists() {
			if list.Head.Number <= before[i].Head.Number {
				t.Errorf("number %d of %s after %d", list.Head.Number, list.Head.List, before[i].Head.Number)
			}
		}
	})
}

// TestInstances: several publishers on one PostgreSQL, all with the key, one without. Numbers and sequences only grow,
// and all serve the same octets in the end.
func TestInstances(t *testing.T) {
	url := testdb.URL(t)
	s := testdb.Open(t, url)
	a := newAuthority(t, s, "Shared CA")
	a.reserve(t, epoch, 0, base)
	keyless := a.config()
	keyless.Signer = nil
	all := []instance{start(t, s, &clock{}, nil, a.config()), start(t, testdb.Open(t, url), &clock{}, nil, a.config()),
		start(t, testdb.Open(t, url), &clock{}, nil, a.config()), start(t, testdb.Open(t, url), &clock{}, nil, keyless)}

	watching, stop := context.WithCancel(t.Context())
	seen := make(chan error, 1)
	go func() { seen <- watchGrowth(watching, s) }()
	var last uint64
	for index := range uint64(60) {
		last = a.revoke(t, index)
	}
	for _, p := range all {
		p.await(t, last)
	}
	eventually(t, "all serve the same lists", func() bool {
		_, want, _ := all[0].Document(a.shard())
		for _, p := range all {
			if _, h, ok := p.Document(a.shard()); !ok || h.Sum != want.Sum || h.Seq < last {
				return false
			}
		}
		return true
	})
	stop()
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if l := p.list(t, a, a.shard()); l.Len() != 60 {
			t.Fatalf("%d entries", l.Len())
		}
	}
}

// watchGrowth reads the heads every few milliseconds and fails when anything goes back.
func watchGrowth(ctx context.Context, s store.Store) error {
	last := make(map[crlserver.List]crlserver.Head)
	for ctx.Err() == nil {
		heads, _, err := s.PublicationHeads(ctx, time.Time{})
		if err != nil {
			break // the test has ended
		}
		for _, h := range heads {
			if before := last[h.List]; h.Number < before.Number || h.Seq < before.Seq {
				return errors.New("number or sequence of " + h.List.String() + " went back")
			}
			last[h.List] = h
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// faulty breaks publications in pairs: failed, and failed but happened.
type faulty struct {
	crlserver.Publications
	fail func(finish bool) (before, after error)
}

func (f faulty) BeginPublication(ctx context.Context, series crlserver.Series, owner revocation.InstanceID, seen uint64, lease time.Duration) (uint64, bool, error) {
	before, after := f.fail(false)
	if before != nil {
		return 0, false, before
	}
	number, ok, err := f.Publications.BeginPublication(ctx, series, owner, seen, lease)
	return number, ok, errors.Join(err, after)
}

func (f faulty) FinishPublication(ctx context.Context, owner revocation.InstanceID, series crlserver.Series, number uint64, heads []crlserver.Head, der map[int][]byte) error {
	before, after := f.fail(true)
	if before != nil {
		return before
	}
	return errors.Join(f.Publications.FinishPublication(ctx, owner, series, number, heads, der), after)
}

// TestFaults: every so many calls one fails, before or after it happened; the lists come out all the same.
func TestFaults(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken on purpose")
	for name, fault := range map[string]func(n int, finish bool) (before, after error){
		"begin fails":                  func(n int, finish bool) (error, error) { return onlyIf(!finish && n%2 == 0, broken), nil },
		"begin fails but happened":     func(n int, finish bool) (error, error) { return nil, onlyIf(!finish && n%2 == 0, broken) },
		"finish fails":                 func(n int, finish bool) (error, error) { return onlyIf(finish && n%4 == 0, broken), nil },
		"finish fails but happened":    func(n int, finish bool) (error, error) { return nil, onlyIf(finish && n%4 == 0, broken) },
		"the first ten of either fail": func(n int, finish bool) (error, error) { return onlyIf(n < 10, broken), nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdb.SQLite(t)
			a := newAuthority(t, s, "Faulty CA")
			a.reserve(t, epoch, 0, base)
			calls := make(chan int, 1)
			calls <- 0
			p := start(t, s, &clock{}, func(c *crlserver.Config) {
				c.Publications = faulty{s, func(finish bool) (error, error) {
					n := <-calls
					calls <- n + 1
					return fault(n, finish)
				}}
			}, a.config())
			for index := range uint64(4) {
				p.await(t, a.revoke(t, index))
				if l := p.list(t, a, a.shard()); l.Len() != int(index)+1 {
					t.Fatalf("%d entries after %d revocations", l.Len(), index+1)
				}
			}
			for _, list := range p.Lists() {
				if list.Failure != nil || list.Behind {
					t.Errorf("%s was published, and is behind %t or failed: %v", list.Head.List, list.Behind, list.Failure)
				}
			}
			if err := watchOnce(t, s, p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFullDiskWhilePublishing: a list that the database has no space for is not served, the one before it is, and whoever watches is told why. When
// there is space it follows by itself.
func TestFullDiskWhilePublishing(t *testing.T) {
	t.Parallel()
	s := testdb.Postgres(t)
	a := newAuthority(t, s, "Full CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.revoke(t, 1))
	testdb.Exec(t, s, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$`)
	testdb.Exec(t, s, `CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON publications FOR EACH ROW EXECUTE FUNCTION full_disk()`)
	seq := a.revoke(t, 2) // the ledger has space
	eventually(t, "the failure is told", func() bool {
		for _, list := range p.Lists() {
			if list.Head.List == a.shard() && errors.Is(list.Failure, pki.ErrDiskFull) && list.Behind {
				return true
			}
		}
		return false
	})
	if l := p.list(t, a, a.shard()); l.Len() != 1 {
		t.Errorf("a list of %d entries is served, which the database has not", l.Len())
	}
	testdb.Exec(t, s, `DROP TRIGGER full_disk ON publications`)
	p.await(t, seq)
	if l := p.list(t, a, a.shard()); l.Len() != 2 {
		t.Errorf("with space again the list has %d entries", l.Len())
	}
	if err := watchOnce(t, s, p); err != nil {
		t.Error(err)
	}
}

func onlyIf(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

// watchOnce compares what is served with what the database has.
func watchOnce(t *testing.T, s store.Store, p instance) error {
	heads, _, err := s.PublicationHeads(t.Context(), time.Time{})
	if err != nil {
		return err
	}
	for _, h := range heads {
		if _, served, ok := p.Document(h.List); !ok || served.Number < h.Number {
			return errors.New(h.List.String() + " in the database is newer than what is served")
		}
	}
	return nil
}

// TestBaseURLs: certificates of one shard may carry different URLs; its list names them all, oldest first, for ever.
func TestBaseURLs(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Moving CA")
	a.reserve(t, epoch, 0, "http://old.example")
	a.reserve(t, epoch, 100, "http://new.example")
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.revoke(t, 1))
	path := "/crl/" + a.issuer.String() + "/" + epoch.String() + "-0.crl"
	urls := func() string { return strings.Join(p.list(t, a, a.shard()).IDP.URLs(), " ") }
	if want := "http://old.example" + path + " http://new.example" + path; urls() != want {
		t.Fatalf("names are %s", urls())
	}
	a.reserve(t, epoch, 200, "http://third.example")
	eventually(t, "a new base URL without any revocation", func() bool { return strings.HasSuffix(urls(), " http://third.example"+path) })
	testdb.Exec(t, s, `UPDATE ranges SET state = 3 WHERE from_idx = 0`)
	p.await(t, a.revoke(t, 2))
	if !strings.HasPrefix(urls(), "http://old.example"+path+" ") {
		t.Errorf("a name was taken back: %s", urls())
	}
	p.stop()
	p = start(t, s, &clock{}, nil, a.config())
	p.await(t, a.revoke(t, 3))
	if !strings.HasPrefix(urls(), "http://old.example"+path+" ") {
		t.Errorf("a name was taken back after a restart: %s", urls())
	}
}

// TestDelta: base and delta together say what the newest complete list says, for whoever kept an old base.
func TestDelta(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Delta CA")
		a.reserve(t, epoch, 0, base)
		issuer := a.config()
		issuer.Delta = true
		c := &clock{}
		p := start(t, s, c, func(c *crlserver.Config) { c.Interval, c.Validity = 7*24*time.Hour, 30*24*time.Hour }, issuer)
		hold := a.append(t, a.event(epoch, 1, revocation.KindHold, pki.CertificateHold, 0))
		p.await(t, hold)
		kept := p.list(t, a, a.complete())
		if len(kept.Freshest) != 1 || kept.Freshest[0].URLs()[0] != base+"/crl/"+a.issuer.String()+"/delta.crl" {
			t.Fatalf("the base points to %+v", kept.Freshest)
		}
		p.await(t, a.append(t, a.event(epoch, 1, revocation.KindRelease, pki.Unspecified, hold)))
		p.await(t, a.revoke(t, 2)) // with the same base, although there is a younger one
		delta := p.list(t, a, a.delta())
		if err := kept.AcceptsDelta(delta); err != nil {
			t.Fatalf("%v (base %s, delta %s to %s)", err, kept.Number, delta.BaseNumber, delta.Number)
		}
		if full := p.list(t, a, a.complete()); full.Number != delta.Number {
			t.Errorf("lists made at once have numbers %s and %s (RFC 5280, Section 5.2.4)", full.Number, delta.Number)
		}
		judge := func(index uint64) crl.Status {
			sn := serial(epoch, index)
			return crl.Judge(crl.Target{Serial: sn[:], Issuer: a.cert.RawSubject, Version: 3}, []*crl.List{kept, delta},
				crl.Rules{At: c.now(), Signers: signersOf(a)}).Status
		}
		if judge(1) != crl.Unrevoked || judge(2) != crl.Revoked || judge(3) != crl.Unrevoked {
			t.Errorf("released: %s, revoked: %s, other: %s", judge(1), judge(2), judge(3))
		}
		openssl(t, p, a, a.delta())
		c.move(13 * time.Hour) // the base is old now; the next delta has a younger one
		p.await(t, a.revoke(t, 3))
		eventually(t, "a delta with a younger base", func() bool { return p.list(t, a, a.delta()).BaseNumber.Compare(delta.BaseNumber) > 0 })
		c.move(25 * time.Hour) // nothing happens, and no rebuild is due for days
		eventually(t, "a delta of a base that is not older than a day", func() bool {
			_, delta, _ := p.Document(a.delta())
			return c.now().Sub(delta.BaseUpdate) < 24*time.Hour
		})
	})
}

// TestLongDelta: after a mass revocation the delta begins anew, from a complete list that has it all, and follows every event again.
func TestLongDelta(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Mass CA")
	a.reserve(t, epoch, 0, base)
	issuer := a.config()
	issuer.Delta = true
	p := start(t, s, &clock{}, nil, issuer)
	p.await(t, a.revoke(t, 0))
	const many = 21_000 // over 1 MiB
	entries := make([]revocation.NewEntry, many)
	for i := range entries {
		entries[i] = a.event(epoch, uint64(1+i), revocation.KindRevoke, pki.Superseded, 0)
	}
	a.append(t, entries...)
	var before int
	eventually(t, "a complete list, and a short delta", func() bool {
		_, full, _ := p.Document(a.complete())
		der, delta, ok := p.Document(a.delta())
		before = delta.Entries // none, or what came while the complete list was made
		return ok && full.Entries > 1 && full.Entries+before == 1+many && delta.Base == full.Number && len(der) < 1<<20
	})
	kept := p.list(t, a, a.complete())
	p.await(t, a.revoke(t, 1+many))
	delta := p.list(t, a, a.delta())
	if _, ok := has(delta, epoch, 1+many); !ok || delta.Len() != before+1 || kept.AcceptsDelta(delta) != nil {
		t.Errorf("the delta has %d entries, and fits the list before it: %v", delta.Len(), kept.AcceptsDelta(delta))
	}
	_, full, _ := p.Document(a.complete())
	if _, err := s.PublicationBytes(t.Context(), a.complete(), full.Number); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a complete list of %d octets is kept in the database: %v", full.Size, err)
	}
	if full := p.list(t, a, a.complete()); full.Number != kept.Number {
		t.Errorf("the complete list, which is long, followed: number %s after %s", full.Number, kept.Number)
	}
}

// TestPassedWeek: the last list, and then none.
func TestPassedWeek(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Passing CA")
		a.reserve(t, epoch, 0, base)
		c := &clock{}
		p := start(t, s, c, nil, a.config())
		p.await(t, a.revoke(t, 1))
		c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(24*time.Hour - 20*time.Minute)))
		before := time.Unix((epoch + 1).Start(), 0).Add(23 * time.Hour)
		eventually(t, "the last complete list with the week", func() bool {
			_, h, ok := p.Document(a.complete())
			return ok && h.ThisUpdate.After(before) && h.Entries == 1
		})
		c.move(time.Hour) // its next is not due for hours, but for the end of the week
		eventually(t, "the last list of the shard", func() bool { _, h, ok := p.Document(a.shard()); return ok && h.Final })
		if l := p.list(t, a, a.shard()); l.Len() != 1 {
			t.Fatalf("the last list has %d entries", l.Len())
		}
		eventually(t, "a complete list without the week", func() bool { _, h, ok := p.Document(a.complete()); return ok && h.Entries == 0 })
		p.stop()
		p = start(t, s, c, nil, a.config()) // from the database: the ledger of the week is not read any more
		if l := p.list(t, a, a.shard()); l.Len() != 1 {
			t.Fatalf("after a restart the last list has %d entries", l.Len())
		}
		c.move(73 * time.Hour)
		eventually(t, "the end of the shard", func() bool { _, _, ok := p.Document(a.shard()); return !ok })
		eventually(t, "the end of the shard in the database", func() bool {
			heads, _, err := s.PublicationHeads(t.Context(), time.Time{})
			return err == nil && len(heads) == 1
		})
	})
}

// TestStart: who starts late makes the same octets as who followed, whatever the order in which it reads the ledger; and it does not read
// what has passed, but for a shard whose last list is still to be made.
func TestStart(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Restarting CA")
		a.reserve(t, epoch, 0, base)
		c := &clock{}
		early := start(t, s, c, nil, a.config())
		var entries []revocation.NewEntry
		for i := range 600 { // too many for the octets to be kept
			index := i * 7 % 600 // in no order of the certificates
			entry := a.event(epoch+pki.Epoch(index%2), uint64(index), revocation.KindRevoke, pki.KeyCompromise, 0)
			if index%3 == 0 {
				entry.Foreign, entry.Position = true, pki.Position{}
			}
			entries = append(entries, entry)
		}
		a.append(t, entries...)
		keyless := a.config()
		keyless.Signer = nil
		late := start(t, s, c, nil, keyless)
		seq := a.revoke(t, 600)
		early.await(t, seq)
		late.await(t, seq)
		for _, list := range []crlserver.List{a.shard(), a.complete()} {
			eventually(t, "both serve the same "+list.String(), func() bool {
				one, _, _ := early.Document(list)
				other, _, _ := late.Document(list)
				return one.Sum() == other.Sum()
			})
		}
		listed := early.list(t, a, a.shard()).Len()
		early.stop()
		late.stop()

		c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
		seq = a.append(t, a.event(epoch+1, 602, revocation.KindRevoke, pki.KeyCompromise, 0))
		ledger := &whole{Store: s, end: seq}
		after := start(t, ledger, c, nil, a.config())
		after.await(t, seq)
		eventually(t, "the last list of the week", func() bool { _, h, ok := after.Document(a.shard()); return ok && h.Final && h.Entries == listed })
		if ledger.read.Load() {
			t.Error("the whole ledger was read")
		}
	})
}

// whole notes whether what the ledger had at the start is read entry by entry.
type whole struct {
	store.Store
	end  uint64
	read atomic.Bool
}

func (w *whole) LedgerEntries(ctx context.Context, after uint64, limit int) ([]revocation.Entry, error) {
	if after < w.end {
		w.read.Store(true)
	}
	return w.Store.LedgerEntries(ctx, after, limit)
}

// TestSelfCheck: a key that signs wrongly publishes nothing, and it is said.
func TestSelfCheck(t *testing.T) {
	s := testdb.SQLite(t)
	a, other := newAuthority(t, s, "Checked CA"), newAuthority(t, s, "Other CA")
	a.reserve(t, epoch, 0, base)
	wrong := a.config()
	wrong.Signer = other.key
	p := start(t, s, &clock{}, nil, wrong)
	eventually(t, "a complaint", func() bool { err := p.Check(); return err != nil && strings.Contains(err.Error(), "signature") })
	if heads, _, err := s.PublicationHeads(t.Context(), time.Time{}); err != nil || len(heads) != 0 || len(p.Lists()) != 0 {
		t.Fatalf("published: %v %v", heads, err)
	}
}

// TestWentBack: a database that gives a number twice stops publishing and serving goes on.
func TestWentBack(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Restored CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.revoke(t, 1))
	_, before, _ := p.Document(a.shard())
	testdb.Exec(t, s, `UPDATE publication_series SET number = number - 1`)
	testdb.Exec(t, s, `DELETE FROM publications`)
	a.revoke(t, 2)
	eventually(t, "a complaint", func() bool { err := p.Check(); return err != nil && strings.Contains(err.Error(), "went back") })
	if _, after, ok := p.Document(a.shard()); !ok || after.Sum != before.Sum {
		t.Fatal("what was served is served no more")
	}
}

// TestPeriodic: lists are rebuilt although nothing happens.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Periodic CA")
	a.reserve(t, epoch, 0, base)
	c := &clock{}
	p := start(t, s, c, nil, a.config())
	p.await(t, a.revoke(t, 1))
	_, before, _ := p.Document(a.shard())
	c.move(6*time.Hour + time.Minute)
	eventually(t, "a rebuilt list", func() bool {
		_, h, _ := p.Document(a.shard())
		return h.Number > before.Number && h.ThisUpdate.After(before.ThisUpdate)
	})
	p.stop()
	c.move(60 * time.Hour)
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), "was not rebuilt") {
		t.Errorf("lists that are about to end are not reported: %v", err)
	}
}

// TestClockLeaps: numbers grow whatever the clock does, and no list stays from the future.
func TestClockLeaps(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Leaping CA")
	a.reserve(t, epoch, 0, base)
	c := &clock{}
	p := start(t, s, c, nil, a.config())
	p.await(t, a.revoke(t, 1))
	_, first, _ := p.Document(a.shard())
	c.move(time.Hour)
	p.await(t, a.revoke(t, 2))
	_, ahead, _ := p.Document(a.shard())
	c.move(-time.Hour)
	eventually(t, "a list that is not from the future", func() bool { _, h, _ := p.Document(a.shard()); return !h.ThisUpdate.After(c.now()) })
	_, back, _ := p.Document(a.shard())
	p.await(t, a.revoke(t, 3))
	_, last, _ := p.Document(a.shard())
	if !(first.Number < ahead.Number && ahead.Number < back.Number && back.Number < last.Number) || !(first.Seq < ahead.Seq && ahead.Seq <= back.Seq && back.Seq < last.Seq) {
		t.Errorf("numbers %d %d %d %d, sequences %d %d %d %d", first.Number, ahead.Number, back.Number, last.Number, first.Seq, ahead.Seq, back.Seq, last.Seq)
	}
}

// TestClocksThatDiffer: where two clocks tell different times, lists carry the earlier one, none is taken to be from the future that one
// of them allows, and what by one of them would have ended at once is not published.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Doubtful CA")
	a.reserve(t, epoch, 0, base)
	c, other := &clock{}, &clock{}
	p := start(t, s, c, func(config *crlserver.Config) {
		config.Span = func() (earliest, latest time.Time) {
			if c.now().Before(other.now()) {
				return c.now(), other.now()
			}
			return other.now(), c.now()
		}
	}, a.config())
	c.move(7 * time.Hour) // more than the interval: by this clock, every list is due at once
	p.await(t, a.revoke(t, 1))
	_, first, _ := p.Document(a.shard())
	if off := first.ThisUpdate.Sub(other.now()); off > 0 || off < -time.Minute {
		t.Errorf("ahead by seven hours: thisUpdate is %s from the other clock", off)
	}
	time.Sleep(1500 * time.Millisecond) // every loop runs
	if _, again, _ := p.Document(a.shard()); again.Number != first.Number {
		t.Errorf("list %d follows list %d, and nothing happened", again.Number, first.Number)
	}
	c.move(-14 * time.Hour)
	time.Sleep(1500 * time.Millisecond)
	if _, again, _ := p.Document(a.shard()); again.Number != first.Number {
		t.Errorf("behind by seven hours: list %d follows list %d, and nothing happened", again.Number, first.Number)
	}
	p.await(t, a.revoke(t, 2))
	if _, h, _ := p.Document(a.shard()); h.ThisUpdate.After(c.now()) {
		t.Errorf("behind by seven hours: thisUpdate is %s, now %s", h.ThisUpdate, c.now())
	}
	c.move(87 * time.Hour) // ahead by 80
	a.revoke(t, 3)
	eventually(t, "a refusal", func() bool { err := p.Check(); return err != nil && strings.Contains(err.Error(), "does not hold") })
	if _, h, _ := p.Document(a.shard()); h.Entries != 2 {
		t.Errorf("a list of %d entries was published, that ended before it began", h.Entries)
	}
}

// TestDatabaseDown: serving goes on without the database, and publishing once it is back.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	server := testdb.Durable(t)
	s := testdb.Open(t, server.URL(t))
	a := newAuthority(t, s, "Patient CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, nil, a.config())
	p.await(t, a.revoke(t, 1))
	server.Kill(t)
	time.Sleep(1500 * time.Millisecond) // every loop fails at least once
	if l := p.list(t, a, a.shard()); l.Len() != 1 {
		t.Fatalf("%d entries without the database", l.Len())
	}
	server.Start(t)
	var seq uint64
	eventually(t, "the ledger takes a revocation", func() bool {
		var err error
		seq, err = s.AppendLedger(t.Context(), 0, []revocation.NewEntry{a.event(epoch, 2, revocation.KindRevoke, pki.KeyCompromise, 0)}, nil)
		return err == nil
	})
	p.await(t, seq)
	if l := p.list(t, a, a.shard()); l.Len() != 2 {
		t.Fatalf("%d entries after the database came back", l.Len())
	}
}

// An issuer that is configured no more is not published, and others are; when it is there again, everything follows.
func TestIssuerThatIsGone(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a, other := newAuthority(t, s, "Leaving CA"), newAuthority(t, s, "Staying CA")
	a.reserve(t, epoch, 0, base)
	other.reserve(t, epoch, 0, base)
	var gone atomic.Bool
	p := start(t, s, &clock{}, func(c *crlserver.Config) {
		c.Issuers = func() []crlserver.Issuer {
			if gone.Load() {
				return []crlserver.Issuer{other.config()}
			}
			return []crlserver.Issuer{a.config(), other.config()}
		}
	})
	p.await(t, a.revoke(t, 1))
	_, before, _ := p.Document(a.shard())
	gone.Store(true)
	p.Reload()
	a.revoke(t, 2)
	for index := range uint64(3) {
		p.await(t, other.revoke(t, index))
	}
	if _, head, ok := p.Document(a.shard()); !ok || head.Number != before.Number {
		t.Errorf("served %t, number %d after %d", ok, head.Number, before.Number)
	}
	gone.Store(false)
	p.Reload()
	p.await(t, p.Seq())
	if list := p.list(t, a, a.shard()); list.Len() != 2 {
		t.Errorf("the list has %d entries, want 2", list.Len())
	}
}

// A week that has passed before anybody published a list of it is published no more.
func TestWeekThatWasNeverPublished(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a, other := newAuthority(t, s, "Keyless CA"), newAuthority(t, s, "Other CA")
	a.reserve(t, epoch, 0, base)
	other.reserve(t, epoch+1, 0, base)
	keyless := a.config()
	keyless.Signer = nil
	c := &clock{}
	p := start(t, s, c, func(c *crlserver.Config) { c.Interval, c.Validity = time.Hour, 100*365*24*time.Hour }, keyless, other.config())
	if err := p.Check(); err == nil || !strings.Contains(err.Error(), a.shard().String()+" was never published") {
		t.Errorf("a list that is missing: %v", err)
	}
	c.move(untilTheEnd(time.Hour))
	eventually(t, "nobody misses it", func() bool {
		err := p.Check()
		return err != nil && !strings.Contains(err.Error(), a.shard().String()) && strings.Contains(err.Error(), a.complete().String())
	})
}

// TestCatchUpFar: CatchUp takes all that happened since Load, more than the universe tells at once.
func TestCatchUpFar(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Far CA")
	a.reserve(t, epoch, 0, base)
	other := start(t, s, &clock{}, nil, a.config())
	other.await(t, a.revoke(t, 1))
	universe := must(revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s}))
	if err := universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	keyless := a.config()
	keyless.Signer = nil
	p := must(crlserver.New(crlserver.Config{Publications: s, Bases: s, Universe: universe, Instance: revocation.InstanceID{9},
		Issuers: func() []crlserver.Issuer { return []crlserver.Issuer{keyless} }}))
	if err := p.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for part := range uint64(11) {
		var entries []revocation.NewEntry
		for i := range uint64(1000) {
			entries = append(entries, a.event(epoch, 10+part*1000+i, revocation.KindRevoke, pki.Superseded, 0))
		}
		last = a.append(t, entries...)
	}
	other.await(t, last)
	for _, catchUp := range []func(context.Context) error{universe.CatchUp, p.CatchUp} {
		if err := catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, head, _ := p.Document(a.shard()); p.Seq() != last || head.Seq < last {
		t.Errorf("it is at entry %d and its list at %d, others are at %d", p.Seq(), head.Seq, last)
	}
}

func TestConfig(t *testing.T) {
	s := testdb.SQLite(t)
	u, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s})
	if err != nil {
		t.Fatal(err)
	}
	good := crlserver.Config{Publications: s, Bases: s, Universe: u, Issuers: func() []crlserver.Issuer { return nil }, Instance: revocation.InstanceID{1}}
	if _, err := crlserver.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*crlserver.Config){
		"no store":                  func(c *crlserver.Config) { c.Publications = nil },
		"no bases":                  func(c *crlserver.Config) { c.Bases = nil },
		"no universe":               func(c *crlserver.Config) { c.Universe = nil },
		"no issuers":                func(c *crlserver.Config) { c.Issuers = nil },
		"no instance":               func(c *crlserver.Config) { c.Instance = revocation.InstanceID{} },
		"lapsing lists":             func(c *crlserver.Config) { c.Validity = time.Hour },
		"lists rebuilt as they end": func(c *crlserver.Config) { c.Validity = 6 * time.Hour },
		"negative age":              func(c *crlserver.Config) { c.MaxAge = -1 },
		"negative interval":         func(c *crlserver.Config) { c.Interval = -1 },
		"negative validity":         func(c *crlserver.Config) { c.Validity = -1 },
	} {
		config := good
		change(&config)
		if _, err := crlserver.New(config); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failingBases cannot read base URLs while it fails.
type failingBases struct {
	crlserver.Bases
	fails atomic.Bool
}

func (b *failingBases) ShardBases(ctx context.Context, since time.Time) ([]crlserver.ShardBase, time.Time, error) {
	if b.fails.Load() {
		return nil, time.Time{}, errors.New("broken on purpose")
	}
	return b.Bases.ShardBases(ctx, since)
}

// A revocation that comes with a new shard is not lost if that shard's base URLs cannot be read just then.
func TestBasesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "One CA")
	bases := &failingBases{Bases: s}
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Bases = bases }, a.config())
	bases.fails.Store(true)
	const weeks = 40 // some come together with their revocation
	var last uint64
	for week := range pki.Epoch(weeks) {
		a.reserve(t, epoch+week, 0, base)
		last = a.append(t, a.event(epoch+week, 0, revocation.KindRevoke, pki.Superseded, 0))
	}
	p.await(t, last)
	bases.fails.Store(false)
	for week := range pki.Epoch(weeks) {
		list := a.shard()
		list.Shard.Epoch += week
		if _, ok := has(p.list(t, a, list), epoch+week, 0); !ok {
			t.Errorf("%s lacks its certificate", list)
		}
	}
}

// outOfReach has lists whose octets cannot be read while the database is away.
type outOfReach struct {
	crlserver.Publications
	away  *atomic.Bool
	tried *atomic.Int64
}

func (o outOfReach) PublicationBytes(ctx context.Context, list crlserver.List, number uint64) ([]byte, error) {
	o.tried.Add(1)
	if o.away.Load() {
		return nil, pki.Errorf(pki.KindUnavailable, "read publication", "away on purpose")
	}
	return o.Publications.PublicationBytes(ctx, list, number)
}

// A list that cannot be rebuilt here, and whose octets cannot be read for a moment, is served once they can be: on an instance that has
// not the key nobody would make it anew.
func TestOctetsOutOfReach(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Distant CA")
	a.reserve(t, epoch, 0, base)
	first := start(t, s, &clock{}, nil, a.config())
	first.await(t, a.revoke(t, 1))
	first.stop()
	_, want, _ := first.Document(a.shard())

	follower := a.config()
	follower.Signer, follower.KeyID = nil, []byte("another") // whose rebuilt lists have other octets
	o := outOfReach{s, new(atomic.Bool), new(atomic.Int64)}
	o.away.Store(true)
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Publications = o }, follower)
	if _, _, ok := p.Document(a.shard()); ok || o.tried.Load() == 0 {
		t.Fatalf("served %t after %d readings", ok, o.tried.Load())
	}
	o.away.Store(false)
	eventually(t, "the list", func() bool { _, head, ok := p.Document(a.shard()); return ok && head.Number == want.Number })
}
