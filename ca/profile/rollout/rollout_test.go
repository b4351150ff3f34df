package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"signet.example/signet/ca/profile"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var chief = audit.Event{Actor: "token:chief", Action: "anything", Source: "192.0.2.1"}

// files are the profile files of one machine.
type files struct {
	t   *testing.T
	dir string
}

// put writes the profile name, with the lifetime that is said.
func (f files) put(name, lifetime string) {
	f.t.Helper()
	text := fmt.Sprintf("name: %s\nlifetime: %s\nnames: {min: 1, dns: {allow: [\".example.com\"]}}\nkey_usage: [digital_signature]\nextended_key_usage: [server_auth]\n", name, lifetime)
	if err := os.WriteFile(filepath.Join(f.dir, name+".yaml"), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// digest is that of a set read from the files now.
func (f files) digest() [32]byte {
	f.t.Helper()
	set, err := profile.Open(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	return set.Digest()
}

// open makes instance n, with files of its own, which is alive for the others and does not run yet.
func open(t *testing.T, s store.Store, n byte) (*rollout.Rollout, files) {
	t.Helper()
	f := files{t, t.TempDir()}
	f.put("web", "30d")
	r, err := rollout.Open(t.Context(), rollout.Config{Dir: f.dir, Store: s, Instance: rollout.InstanceID{n}, Name: string('a' + rune(n) - 1)})
	if err != nil {
		t.Fatal(err)
	}
	return r, f
}

// run follows what others ask, until the test ends.
func run(t *testing.T, s store.Store, all ...*rollout.Rollout) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, r := range all {
		if err := s.ReportProgress(ctx, revocation.InstanceID(r.Own().ID), map[string]uint64{"crl": 1}); err != nil {
			t.Fatal(err)
		}
		running.Go(func() { r.Run(ctx, func(err error) { t.Errorf("%s: %v", r.Own().Name, err) }) })
	}
}

// has fails unless an instance has the files as they are, and says so, in answer to a generation.
func has(t *testing.T, r *rollout.Rollout, f files, generation uint64) {
	t.Helper()
	own := r.Own()
	if own.Digest != f.digest() || own.Digest != r.Profiles().Digest() || own.Count != len(r.Profiles().All()) || own.Generation != generation || own.Failure != "" {
		t.Errorf("%s says %+v, and has %d profiles with digest %x; want generation %d and digest %x", own.Name, own, len(r.Profiles().All()), r.Profiles().Digest(), generation, f.digest())
	}
}

func inBubble(t *testing.T, f func(t *testing.T, s *hooked)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, &hooked{Faulty: &storetest.Faulty{Store: testdb.SQLite(t)}}) })
}

// hooked is a store before which something happens, once.
type hooked struct {
	*storetest.Faulty
	beforeGeneration, beforeReport func()
}

func (h *hooked) ProfileGeneration(ctx context.Context) (uint64, error) {
	if do := h.beforeGeneration; do != nil {
		h.beforeGeneration = nil
		do()
	}
	return h.Faulty.ProfileGeneration(ctx)
}

func (h *hooked) ReportProfiles(ctx context.Context, report rollout.Instance, ask bool, events []audit.Event) (uint64, error) {
	if do := h.beforeReport; do != nil {
		h.beforeReport = nil
		do()
	}
	return h.Faulty.ReportProfiles(ctx, report, ask, events)
}

// One bad file among good ones: nothing of them takes effect, nobody else is asked, and who asked is told. Mended, all of them do.
func TestBadFilesChangeNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hooked) {
		a, f := open(t, s, 1)
		before := a.Own()
		f.put("mail", "10d")
		f.put("web", "forever")
		for _, reload := range []func() error{
			func() error { _, err := a.Reload(t.Context(), chief); return err },
			func() error { return a.ReloadHere(t.Context(), chief) },
		} {
			if err := reload(); err == nil || pki.KindOf(err) != pki.KindInvalid || !strings.Contains(err.Error(), "web.yaml:2") {
				t.Errorf("read: %v", err)
			}
		}
		own := a.Own()
		if own.Digest != before.Digest || own.Count != before.Count || own.Generation != 0 || a.Profiles().Digest() != before.Digest || !strings.Contains(own.Failure, "web.yaml:2") {
			t.Errorf("it says %+v, and had %+v", own, before)
		}
		if asked, err := s.ProfileGeneration(t.Context()); asked != 0 || err != nil {
			t.Errorf("all were asked %d times, %v", asked, err)
		}
		f.put("web", "20d")
		if err := a.ReloadHere(t.Context(), chief); err != nil {
			t.Error(err)
		}
		has(t, a, f, 0)

		events, err := s.AuditEvents(t.Context(), audit.Filter{}, 0, 10)
		if err != nil || len(events) != 3 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		for i, e := range events {
			refused := i < 2
			if e.Actor != chief.Actor || e.Source != chief.Source || e.Action != "profiles.reload" || e.Detail["name"] != "a" || (e.Outcome == audit.Refused) != refused ||
				strings.Contains(e.Detail["error"], "web.yaml:2") != refused || e.Detail["digest_before"] != fmt.Sprintf("%x", before.Digest) {
				t.Errorf("event %d: %+v", i+1, e)
			}
		}
	})
}

// Whoever says that it has answered a generation has the files as they were when that was asked, or later: an instance that opens
// or reloads while others are asked reads the generation before the files.
func TestGenerationBeforeFiles(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hooked) {
		b, fb := open(t, s, 2)
		f := files{t, t.TempDir()}
		f.put("web", "30d")
		putAndAsk := func(lifetime string) func() {
			return func() {
				f.put("web", lifetime)
				fb.put("web", lifetime)
				if _, err := b.Reload(t.Context(), chief); err != nil {
					t.Error(err)
				}
			}
		}
		s.beforeGeneration = putAndAsk("29d")
		a, err := rollout.Open(t.Context(), rollout.Config{Dir: f.dir, Store: s, Instance: rollout.InstanceID{1}, Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		has(t, a, f, 1)

		// The same between the files and the report: the report is not an answer to what was asked meanwhile, and it is followed.
		f.put("mail", "1d")
		s.beforeReport = putAndAsk("28d")
		if err := a.ReloadHere(t.Context(), chief); err != nil {
			t.Fatal(err)
		}
		if own := a.Own(); own.Generation != 1 || own.Digest == f.digest() {
			t.Errorf("it has not read what was put there: %+v", own)
		}
		s.beforeReport = putAndAsk("27d")
		if _, err := a.Reload(t.Context(), chief); err != nil { // asks for the fourth, and has the files of before the third
			t.Fatal(err)
		}
		if own := a.Own(); own.Generation >= 4 {
			t.Errorf("it says that it has answered the fourth: %+v", own)
		}
		run(t, s, a, b)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		has(t, a, f, 4)
		has(t, b, fb, 4)
	})
}

// Every instance that lives reads its own files when one is asked, and the answer says what came of it: one has them, one refuses
// them and keeps what it had, one does not answer in time.
func TestWhatEachIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hooked) {
		a, fa := open(t, s, 1)
		b, fb := open(t, s, 2)
		c, fc := open(t, s, 3)
		silent, _ := open(t, s, 4)
		before := c.Own().Digest
		for _, f := range []files{fa, fb} {
			f.put("mail", "10d")
		}
		fc.put("web", "forever")
		run(t, s, a, b, c)
		if _, err := s.ReportProfiles(t.Context(), silent.Own(), false, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		alive := func(r *rollout.Rollout) {
			if err := s.ReportProgress(t.Context(), revocation.InstanceID(r.Own().ID), map[string]uint64{"crl": 1}); err != nil {
				t.Fatal(err)
			}
		}
		alive(silent)
		started := time.Now()
		all, err := a.Reload(t.Context(), chief)
		if err != nil || len(all) < 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		if waited := time.Since(started); waited != 5*time.Second {
			t.Errorf("it waited %v for the one that does not answer", waited)
		}
		for _, r := range []*rollout.Rollout{a, b, c, silent} {
			alive(r)
		}
		if all, err = a.Instances(t.Context()); err != nil || len(all) != 4 {
			t.Fatalf("%+v, %v", all, err)
		}
		has(t, a, fa, 1)
		has(t, b, fb, 1)
		for i, want := range []struct {
			digest          [32]byte
			refused, behind bool
		}{{fa.digest(), false, false}, {fb.digest(), false, false}, {before, true, false}, {before, false, true}} {
			got := all[i]
			if got.Name != string('a'+rune(i)) || got.Digest != want.digest || strings.Contains(got.Failure, "web.yaml:2") != want.refused || rollout.Behind(got, 1) != want.behind {
				t.Errorf("instance %d: %+v", i+1, got)
			}
		}
		if c.Profiles().Digest() != before {
			t.Error("the one that refused its files has other profiles")
		}

		// The files of the one that refused are mended by hand there; the answer is everybody's at the next.
		fc.put("web", "20d")
		if err := c.ReloadHere(t.Context(), chief); err != nil {
			t.Fatal(err)
		}
		has(t, c, fc, 1)
		// An instance that is gone is waited for by nobody.
		time.Sleep(10 * time.Second)
		for _, r := range []*rollout.Rollout{a, b, c} {
			alive(r)
		}
		started = time.Now()
		all, err = b.Reload(t.Context(), chief)
		if waited := time.Since(started); err != nil || len(all) != 3 || waited > 2*time.Second {
			t.Errorf("after %v: %+v, %v", waited, all, err)
		}
	})
}

// A report that was lost changes nothing here, whether it reached the database or not; what was asked of all is followed.
func TestReportsAreLost(t *testing.T) {
	for _, fault := range storetest.Faults {
		t.Run(fault.String()+", for this instance only", func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *hooked) {
				a, f := open(t, s, 1)
				before := a.Own()
				run(t, s, a)
				synctest.Wait()
				f.put("web", "20d")
				s.Fail("ReportProfiles", fault)
				if err := a.ReloadHere(t.Context(), chief); !errors.Is(err, storetest.ErrFault) || s.Pending() {
					t.Errorf("%v", err)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				reports, err := s.ProfileReports(t.Context(), time.Hour)
				if err != nil || len(reports) != 1 || reports[0].Digest != before.Digest || a.Own() != before {
					t.Errorf("the database says %+v, %v, and it %+v", reports, err, a.Own())
				}
			})
		})
		t.Run(fault.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *hooked) {
				a, f := open(t, s, 1)
				before := a.Own()
				run(t, s, a)
				synctest.Wait()
				f.put("web", "20d")
				s.Fail("ReportProfiles", fault)
				if _, err := a.Reload(t.Context(), chief); !errors.Is(err, storetest.ErrFault) || s.Pending() {
					t.Errorf("%v", err)
				}
				if a.Own() != before || a.Profiles().Digest() != before.Digest {
					t.Errorf("it says %+v, and had %+v", a.Own(), before)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if fault == storetest.FailAfter {
					has(t, a, f, 1)
				} else if a.Own() != before {
					t.Errorf("it says %+v, and had %+v", a.Own(), before)
				}
				reports, err := s.ProfileReports(t.Context(), time.Hour)
				if err != nil || len(reports) != 1 || reports[0].Digest != a.Own().Digest || reports[0].Generation != a.Own().Generation {
					t.Errorf("the database says %+v, %v, and it %+v", reports, err, a.Own())
				}
			})
		})
	}
}

// What is wrong with a file that is no plain text reaches both databases as text.
func TestFilesThatAreNoText(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		var long string
		for i := range 4 {
			long += fmt.Sprintf("%d%s: 1\n", i, strings.Repeat("é", 400))
		}
		for name, bad := range map[string]struct{ file, text string }{
			"Latin-1":                {"web.yaml", "name: web\nlifetime: \xe9ternel\n"},
			"a name in Latin-1":      {"d\xe9j\xe0.web.yaml", "name: web\n"},
			"NUL":                    {"web.yaml", "\"a\\0b\": 1\n"},
			"binary":                 {"web.yaml", "\x1f\x8b\x08\x00\xff\xfe"},
			"cut between characters": {"web.yaml", long},
			"cut within one":         {"web.yaml", "x" + long},
		} {
			a, f := open(t, s, 1)
			if err := os.WriteFile(filepath.Join(f.dir, bad.file), []byte(bad.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := a.ReloadHere(t.Context(), chief); err == nil || pki.KindOf(err) != pki.KindInvalid {
				t.Errorf("%s: %v", name, err)
			}
			if err := s.ReportProgress(t.Context(), revocation.InstanceID{1}, map[string]uint64{"crl": 1}); err != nil {
				t.Fatal(err)
			}
			reports, err := s.ProfileReports(t.Context(), time.Hour)
			if err != nil || len(reports) != 1 {
				t.Fatalf("%s: %+v, %v", name, reports, err)
			}
			why := reports[0].Failure
			if why != a.Own().Failure || !strings.Contains(why, "web.yaml") || !utf8.ValidString(why) || strings.ContainsRune(why, 0) || len(why) > 2010 {
				t.Errorf("%s: %d octets: %q", name, len(why), why)
			}
		}
	})
}

// Two instances, and the same one twice, are asked at the same time while files change: everybody ends with the files as they are,
// and says so.
func TestReloadsAtTheSameTime(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		a, fa := open(t, s, 1)
		b, fb := open(t, s, 2)
		run(t, s, a, b)
		var reloads sync.WaitGroup
		for i := range 8 {
			lifetime := fmt.Sprintf("%dd", 10+i)
			for _, f := range []files{fa, fb} {
				replacement := files{t, t.TempDir()} // nobody reads half a file
				replacement.put("web", lifetime)
				if err := os.Rename(filepath.Join(replacement.dir, "web.yaml"), filepath.Join(f.dir, "web.yaml")); err != nil {
					t.Fatal(err)
				}
			}
			reloads.Go(func() {
				if _, err := []*rollout.Rollout{a, b}[i%2].Reload(t.Context(), chief); err != nil {
					t.Error(err)
				}
			})
		}
		reloads.Wait()
		all, err := a.Reload(t.Context(), chief) // waits until both have answered
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		has(t, a, fa, 9)
		has(t, b, fb, 9)
		for _, i := range all {
			if i.Generation != 9 || i.Digest != a.Own().Digest {
				t.Errorf("%+v", i)
			}
		}
	})
}

// A second reading, begun while the first is being reported, waits: else the first, which has the older files, would be the last word.
func TestReadingsFollowEachOther(t *testing.T) {
	for name, first := range map[string]func(context.Context, *rollout.Rollout) error{
		"all":  func(ctx context.Context, r *rollout.Rollout) error { _, err := r.Reload(ctx, chief); return err },
		"here": func(ctx context.Context, r *rollout.Rollout) error { return r.ReloadHere(ctx, chief) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &hooked{Faulty: &storetest.Faulty{Store: testdb.SQLite(t)}}
			a, f := open(t, s, 1)
			second := make(chan error, 1)
			s.beforeReport = func() {
				f.put("web", "20d")
				go func() { second <- a.ReloadHere(t.Context(), chief) }()
				select { // one that does not wait is through by then
				case err := <-second:
					second <- err
				case <-time.After(100 * time.Millisecond):
				}
			}
			if err := first(t.Context(), a); err != nil {
				t.Error(err)
			}
			if err := <-second; err != nil {
				t.Error(err)
			}
			has(t, a, f, a.Own().Generation)
		})
	}
}
