package crlserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/crl/mirror"
	"signet.example/signet/internal/testbucket"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// TestDirectory: the copy on disk is the list, replaced as it changes.
func TestDirectory(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Filed CA")
	a.reserve(t, epoch, 0, base)
	dir := t.TempDir()
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{mirror.NewDirectory(dir)} }, a.config())
	for index := range uint64(2) {
		p.await(t, a.revoke(t, index))
		for _, list := range []crlserver.List{a.shard(), a.complete()} {
			eventually(t, "the file", func() bool {
				document, _, _ := p.Document(list)
				data, err := os.ReadFile(filepath.Join(dir, "crl", list.String()))
				return err == nil && string(data) == string(document.Bytes())
			})
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "crl", "*", ".*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// TestS3Mirror: the bucket follows what is published, across a time when it is down.
func TestS3Mirror(t *testing.T) {
	t.Parallel()
	b, m := testbucket.New(t)
	down := 3
	b.Before = func(string) int {
		if down > 0 {
			down--
			return http.StatusInternalServerError
		}
		return 0
	}
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Mirrored CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{m} }, a.config())
	for index := range uint64(2) {
		p.await(t, a.revoke(t, index))
		for _, list := range []crlserver.List{a.shard(), a.complete()} {
			eventually(t, "the object", func() bool {
				document, _, _ := p.Document(list)
				o, ok := b.Get("/lists/pki/crl/" + list.String())
				return ok && o.Body == string(document.Bytes())
			})
		}
	}
}

// TestS3Outage: of a time when the bucket does not answer, however many lists are published in it, nothing is kept but what is published anyway:
// afterwards the last of each list is written, once, and nothing of lists that came and went. Meanwhile the lag grows.
func TestS3Outage(t *testing.T) {
	t.Parallel()
	b, m := testbucket.New(t)
	b.Up = make(chan struct{})
	back := sync.OnceFunc(func() { close(b.Up) })
	t.Cleanup(back) // before the server is closed: it waits for its requests
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Copied CA")
	a.reserve(t, epoch, 0, base)
	a.reserve(t, epoch+8, 0, base)
	c := &clock{}
	p := start(t, s, c, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{m} }, a.config())
	long := a.shard()
	long.Shard.Epoch += 8
	for index := range uint64(10) {
		a.revoke(t, index)
		p.await(t, a.append(t, a.event(epoch+8, index, revocation.KindRevoke, pki.Superseded, 0)))
	}
	c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
	eventually(t, "the last list of a week", func() bool { _, h, ok := p.Document(a.shard()); return ok && h.Final })
	c.move(73 * time.Hour)
	eventually(t, "no list of that week", func() bool { _, _, ok := p.Document(a.shard()); return !ok })
	p.await(t, a.append(t, a.event(epoch+8, 99, revocation.KindRevoke, pki.Superseded, 0)))
	eventually(t, "lists of now", func() bool {
		_, shard, _ := p.Document(long)
		_, complete, _ := p.Document(a.complete())
		return shard.Entries == 11 && complete.Entries == 11 && c.now().Sub(shard.ThisUpdate) < time.Hour && c.now().Sub(complete.ThisUpdate) < time.Hour
	})
	name := "mirror " + m.String()
	if lags := p.Lags(); lags[name] < 73*time.Hour || lags["shard"] != 0 || lags["complete"] != 0 {
		t.Errorf("the bucket has nothing since days, and the lags are %v", lags)
	}

	back()
	eventually(t, "no lag", func() bool {
		lags := p.Lags()
		return lags[name] == 0 && lags[name+" complete"] == 0
	})
	var want []string
	for _, list := range []crlserver.List{long, a.complete()} {
		document, head, _ := p.Document(list)
		path := "/lists/pki/crl/" + list.String()
		want = append(want, path+" "+strconv.FormatUint(head.Number, 10))
		if o, ok := b.Get(path); !ok || o.Body != string(document.Bytes()) {
			t.Errorf("%s is not in the bucket as it is served", list)
		}
	}
	want = append(want, "/lists/pki/crl/"+a.issuer.String()+"/index.json ")
	eventually(t, "the index", func() bool { return len(b.Puts()) >= len(want) })
	slices.Sort(want)
	if puts := slices.Sorted(slices.Values(b.Puts())); !slices.Equal(puts, want) || len(b.Paths()) != 3 {
		t.Errorf("written: %v, want %v; there is %v", puts, want, b.Paths())
	}
}

// stuck is a mirror that never answers in time.
type stuck struct{}

func (stuck) Put(ctx context.Context, _ string, _ crl.Document, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stuck) PutIndex(ctx context.Context, _ string, _ func([]string) ([]byte, error)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stuck) Names(context.Context) ([]string, error) { return nil, errors.New("never asked") }
func (stuck) Remove(context.Context, string) error    { return errors.New("never asked") }
func (stuck) String() string                          { return "a place that never answers" }

// TestStuckMirror: a place that does not answer delays nothing, and the publisher still stops.
func TestStuckMirror(t *testing.T) {
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Stuck CA")
	a.reserve(t, epoch, 0, base)
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{stuck{}} }, a.config())
	p.await(t, a.revoke(t, 1))
	p.stop()
}

// shelf is a mirror that never has an index that names what is not there.
type shelf struct {
	t       *testing.T
	mu      sync.Mutex // guards the rest
	down    error      // what storing an index ends with
	refused int        // indexes
	puts    int        // of lists
	late    int        // so many indexes are not told the name that came last
	has     []string   // "crl/..."
	index   []string   // the URLs in it
	indexes int        // were stored
}

func (s *shelf) Put(_ context.Context, name string, _ crl.Document, _ uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.puts++; !slices.Contains(s.has, name) {
		s.has = append(s.has, name)
	}
	return nil
}

func (s *shelf) PutIndex(_ context.Context, name string, of func(names []string) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.has
	if s.late > 0 {
		s.late--
		names = names[:len(names)-1]
	}
	body, err := of(names)
	if s.down != nil || err != nil {
		s.refused++
		return errors.Join(s.down, err)
	}
	s.index, s.indexes = nil, s.indexes+1
	if err := json.Unmarshal(body, &s.index); err != nil || !strings.HasSuffix(name, "/index.json") {
		s.t.Errorf("%s: %s: %v", name, body, err)
	}
	for _, url := range s.index {
		if _, path, _ := strings.Cut(url, "/crl/"); !slices.Contains(s.has, "crl/"+path) {
			s.t.Errorf("the index names %s, which is not there", url)
		}
	}
	return nil
}

func (s *shelf) Names(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.has), nil
}

func (s *shelf) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.index, base+"/"+name) {
		s.t.Errorf("%s is removed, and the index names it", name)
	}
	s.has = slices.DeleteFunc(s.has, func(n string) bool { return n == name })
	return nil
}

func (*shelf) String() string { return "shelf" }

// named are the shards that the index names, by their week, and how often one was stored.
func (s *shelf) named(a *authority, epochs ...pki.Epoch) (just bool, indexes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := []string{}
	for _, epoch := range epochs {
		list := a.shard()
		list.Shard.Epoch = epoch
		want = append(want, crlserver.URL(base, list))
	}
	return slices.Equal(s.index, want) && s.indexes > 0, s.indexes
}

// The index that is copied names what is there, whoever brought it, and nothing else at any time: a list comes before it, and goes after it. It is
// stored when it changes.
func TestIndexes(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a := newAuthority(t, s, "Indexed CA")
		a.reserve(t, epoch, 0, base)
		later := a.shard()
		later.Shard.Epoch = epoch + 16
		place := &shelf{t: t, has: []string{"crl/" + later.String(), "crl/ffffffffffffffffffff/500-0.crl", "notes.txt"}} // later: of an instance that knows more
		c := &clock{}
		p := start(t, s, c, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{place} }, a.config())
		has := func(epochs ...pki.Epoch) {
			t.Helper()
			eventually(t, "the index", func() bool { just, _ := place.named(a, epochs...); return just })
		}
		has(epoch, epoch+16)
		a.reserve(t, epoch+8, 0, base)
		has(epoch, epoch+8, epoch+16)
		_, before := place.named(a)
		a.revoke(t, 1)
		p.await(t, a.append(t, a.event(epoch+8, 1, revocation.KindRevoke, pki.Superseded, 0)))
		eventually(t, "the copy", func() bool { return zero(p.Lags(), "mirror shelf") })
		if _, after := place.named(a); after > before+1 { // the one that follows the look may come late
			t.Errorf("a revocation made %d indexes anew", after-before)
		}

		change := func(do func()) {
			place.mu.Lock()
			defer place.mu.Unlock()
			do()
		}
		change(func() { place.index = nil }) // somebody spoiled it
		c.move(61 * time.Minute)
		has(epoch, epoch+8, epoch+16)

		change(func() { place.down = errors.New("no power") })
		c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
		eventually(t, "the last list of a week", func() bool { _, h, ok := p.Document(a.shard()); return ok && h.Final })
		c.move(73 * time.Hour)
		eventually(t, "no list of that week", func() bool { _, _, ok := p.Document(a.shard()); return !ok })
		var refused int
		change(func() { refused = place.refused })
		eventually(t, "two failures", func() (twice bool) { change(func() { twice = place.refused > refused+1 }); return })
		change(func() { place.down = nil })
		has(epoch+8, epoch+16)
		eventually(t, "the removal", func() bool {
			names, _ := place.Names(t.Context())
			return !slices.Contains(names, "crl/"+a.shard().String()) && len(names) == 5
		})
	})
}

// full has no room for an index while the copy of an old list is there.
type full struct {
	*shelf
	old string
}

func (f full) PutIndex(ctx context.Context, name string, of func(names []string) ([]byte, error)) error {
	f.mu.Lock()
	there := slices.Contains(f.has, f.old)
	f.mu.Unlock()
	if there {
		return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return f.shelf.PutIndex(ctx, name, of)
}

// Where there is no room for an index what is over is removed before it.
func TestOldCopiesMakeRoomForTheIndex(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Full CA")
	a.reserve(t, epoch, 0, base)
	old := "crl/" + a.issuer.String() + "/1-0.crl"
	place := &shelf{t: t, has: []string{old}}
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{full{place, old}} }, a.config())
	p.await(t, a.revoke(t, 1))
	eventually(t, "the index", func() bool { just, _ := place.named(a, epoch); return just })
}

// No list waits for an index that cannot be stored, however often that fails: it is tried less and less often. A shard that has another URL is
// named by that, once it can be.
func TestIndexesThatCannotBeStored(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Indexed CA")
	a.reserve(t, epoch, 0, base)
	place := &shelf{t: t, down: errors.New("listing is not allowed")}
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{place} }, a.config())
	const revocations = 8 // to fail as often takes three minutes
	for index := range uint64(revocations) {
		a.revoke(t, index)
		eventually(t, "the copy", func() bool {
			_, h, _ := p.Document(a.shard())
			return h.Entries == int(index)+1 && zero(p.Lags(), "mirror shelf", "mirror shelf complete")
		})
	}
	eventually(t, "the failure", func() bool { return p.Mirrors()[0].Failure != nil })
	place.mu.Lock()
	if m := p.Mirrors()[0]; place.refused >= revocations || m.Failure.Error() != "listing is not allowed" {
		t.Errorf("%d lists were copied, and an index was tried %d times: %+v", place.puts, place.refused, m)
	}
	place.down = nil
	place.mu.Unlock()
	eventually(t, "the index", func() bool { just, _ := place.named(a, epoch); return just })
	eventually(t, "no failure", func() bool { return p.Mirrors()[0].Failure == nil })

	const elsewhere = "http://elsewhere.example"
	a.reserve(t, epoch, 100, elsewhere)
	eventually(t, "the other URL", func() bool {
		place.mu.Lock()
		defer place.mu.Unlock()
		return slices.Equal(place.index, []string{crlserver.URL(elsewhere, a.shard())})
	})
}

// choosy takes no complete list.
type choosy struct{ *shelf }

func (c choosy) Put(ctx context.Context, name string, document crl.Document, number uint64) error {
	if strings.Count(name, "/") == 1 {
		return errors.New("too large")
	}
	return c.shelf.Put(ctx, name, document, number)
}

// What an earlier process left of a week that is over goes, though a list cannot be copied: it may take the space that this one lacks.
func TestOldCopiesGoThoughAListIsRefused(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Full CA")
	a.reserve(t, epoch, 0, base)
	over := a.shard()
	over.Shard.Epoch = 1
	place := &shelf{t: t, has: []string{"crl/" + over.String()}}
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{choosy{place}} }, a.config())
	eventually(t, "the removal", func() bool {
		names, _ := place.Names(t.Context())
		return p.Mirrors()[0].Failure != nil && !slices.Contains(names, "crl/"+over.String()) && slices.Contains(names, "crl/"+a.shard().String())
	})
}

// An index names what was put there, also where names are told late, and what somebody removed is there again: not only after an hour.
func TestIndexesOfWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Indexed CA")
	a.reserve(t, epoch, 0, base)
	place := &shelf{t: t}
	p := start(t, s, &clock{}, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{place} }, a.config())
	has := func(epochs ...pki.Epoch) {
		t.Helper()
		eventually(t, "the index", func() bool { just, _ := place.named(a, epochs...); return just && p.Mirrors()[0].Failure == nil })
	}
	has(epoch)
	place.mu.Lock()
	place.late = 2
	place.mu.Unlock()
	a.reserve(t, epoch+8, 0, base)
	has(epoch, epoch+8)
	place.mu.Lock()
	place.has = slices.DeleteFunc(place.has, func(name string) bool { return name == "crl/"+a.shard().String() })
	place.mu.Unlock()
	a.reserve(t, epoch+16, 0, base)
	has(epoch, epoch+8, epoch+16)
}

// A copy of a list that is over is removed, by a process that did not put it there: not before it has ended, and nothing else is.
func TestCopiesOfListsThatAreOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, inBucket := testbucket.New(t)
	for name, place := range map[string]struct {
		crlserver.Mirror
		put func(name string)
		has func(name string) bool
	}{
		"directory": {mirror.NewDirectory(dir), func(name string) {
			path := filepath.Join(dir, "crl", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, func(name string) bool { _, err := os.Stat(filepath.Join(dir, "crl", name)); return err == nil }},
		"bucket": {inBucket, func(name string) { b.Put("/lists/pki/crl/"+name, testbucket.Object{}) }, func(name string) bool { _, ok := b.Get("/lists/pki/crl/" + name); return ok }},
	} {
		t.Run(name, func(t *testing.T) {
			s := testdb.SQLite(t)
			a := newAuthority(t, s, "Copied CA")
			a.reserve(t, epoch, 0, base)
			a.reserve(t, epoch+8, 0, base)
			a.reserve(t, epoch-1, 0, base)
			elsewhere := newAuthority(t, s, "CA of another instance")
			elsewhere.reserve(t, epoch, 0, base)
			mirrored := func(validity time.Duration) func(c *crlserver.Config) {
				return func(c *crlserver.Config) { c.Mirrors, c.Validity = []crlserver.Mirror{place}, validity }
			}
			c := &clock{}
			p := start(t, s, c, mirrored(0), a.config())
			p.await(t, a.append(t, a.event(epoch-1, 1, revocation.KindRevoke, pki.Superseded, 0))) // its last list is to come for as long as it takes
			later, earlier := a.shard(), a.shard()
			later.Shard.Epoch, earlier.Shard.Epoch = epoch+8, epoch-1
			stay := []string{later.String(), earlier.String(), a.complete().String(), a.delta().String(), "ffffffffffffffffffff/1-0.crl", elsewhere.issuer.String() + "/1-0.crl", "notes.txt", a.issuer.String() + "/1-0.txt"}
			for _, name := range append(stay[:3:3], a.shard().String()) {
				eventually(t, "the copy "+name, func() bool { return place.has(name) })
			}
			p.stop()
			for _, name := range stay[3:] {
				place.put(name)
			}

			check := func(when string, validity time.Duration, over string, stay ...string) {
				t.Helper()
				place.put(over)
				p := start(t, s, c, mirrored(validity), a.config())
				eventually(t, when+": no copy "+over, func() bool { return !place.has(over) })
				p.stop()
				for _, name := range stay {
					if !place.has(name) {
						t.Errorf("%s: %s is gone", when, name)
					}
				}
			}
			testdb.Exec(t, s, `DELETE FROM publications WHERE epoch = $1`, int64(epoch)) // nobody knows of the shard's list any more
			c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(25 * time.Hour)))
			check("when the week has passed", 24*time.Hour*30, a.issuer.String()+"/1-0.crl", append(stay, a.shard().String())...)
			c.move(73 * time.Hour)
			check("when its last list has ended", 0, a.shard().String(), stay...)
		})
	}
}

// A copy that cannot be removed holds up no other, and is not tried again and again.
func TestCopiesThatStay(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a := newAuthority(t, s, "Copied CA")
	a.reserve(t, epoch+8, 0, base)
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "crl", a.issuer.String()), 0o755), os.WriteFile(filepath.Join(dir, "crl", a.shard().String()), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	c, place := &clock{}, &unremovable{Mirror: mirror.NewDirectory(dir)}
	c.move(time.Until(time.Unix((epoch + 1).Start(), 0).Add(31 * 24 * time.Hour)))
	p := start(t, s, c, func(c *crlserver.Config) { c.Mirrors = []crlserver.Mirror{place} }, a.config())
	eventually(t, "it is tried", func() bool { return place.tried.Load() > 0 })
	for index := range uint64(3) {
		a.append(t, a.event(epoch+8, index, revocation.KindRevoke, pki.Superseded, 0))
		eventually(t, "the copy of another list", func() bool { return place.entries.Load() > int64(index) })
	}
	p.stop()
	if n := place.tried.Load(); n != 1 {
		t.Errorf("it was tried %d times within an hour", n)
	}
}

type unremovable struct {
	crlserver.Mirror
	tried   atomic.Int32
	entries atomic.Int64 // of the copy of a shard's list
}

func (m *unremovable) Put(ctx context.Context, name string, document crl.Document, number uint64) error {
	err := m.Mirror.Put(ctx, name, document, number)
	if copied, parseErr := crl.Parse(document.Bytes()); parseErr == nil && err == nil && strings.HasSuffix(name, "-0.crl") {
		m.entries.Store(int64(copied.Len()))
	}
	return err
}

func (m *unremovable) Remove(context.Context, string) error {
	m.tried.Add(1)
	return errors.New("not allowed")
}
