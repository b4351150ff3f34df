package highwater_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/server/highwater"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// marks are those of the file.
type marks struct {
	Ledger   uint64 `json:"ledger"`
	Audit    uint64 `json:"audit"`
	Head     string `json:"head,omitempty"`
	Lists    uint64 `json:"lists,omitempty"`
	WentBack bool   `json:"went_back,omitempty"`
}

func write(t *testing.T, path string, seen marks) {
	t.Helper()
	text, err := json.Marshal(seen)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func happen(t *testing.T, db store.Store) store.Witness {
	t.Helper()
	if err := db.AppendAudit(t.Context(), []audit.Event{{At: time.Now(), Actor: "test", Action: "a.b", Target: "t", Outcome: audit.OK}}); err != nil {
		t.Fatal(err)
	}
	now, _, err := db.Witness(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// What was seen may be what there is, or less; anything that is missing, or another past, refuses the database until it
// was moved on.
func TestOpen(t *testing.T) {
	t.Parallel()
	db, path := testdb.SQLite(t), filepath.Join(t.TempDir(), "highwater.json")
	first := happen(t, db)
	now := happen(t, db)
	head := func(w store.Witness) string { return hex.EncodeToString(w.Audit.Head[:]) }
	for _, test := range []struct {
		name string
		seen marks
		want string
	}{
		{"what there is", marks{Ledger: now.Ledger, Audit: now.Audit.Seq, Head: head(now), Lists: now.Lists}, ""},
		{"its past", marks{Audit: first.Audit.Seq, Head: head(first)}, ""},
		{"nothing", marks{}, ""},
		{"more of the ledger", marks{Ledger: now.Ledger + 1}, "the ledger ends at 0, and 1 was seen"},
		{"more of the audit log", marks{Audit: now.Audit.Seq + 1}, "the audit log ends at 2, and 3 was seen"},
		{"more lists", marks{Lists: now.Lists + 1}, "the number of publications is 0, and 1 was seen"},
		{"another past", marks{Audit: first.Audit.Seq, Head: head(now)}, "another past than was seen at event 1"},
		{"that it went back", marks{WentBack: true}, "was not moved on since"},
	} {
		write(t, path, test.seen)
		_, err := highwater.Open(t.Context(), path, db)
		switch e, ok := errors.AsType[*pki.Error](err); {
		case test.want == "" && err == nil:
		case !ok || test.want == "" || e.Kind != pki.KindFailedPrecondition || !isWentBack(err) || !strings.Contains(e.Error(), test.want) || !strings.Contains(e.Hint, "signet restore --in-place"):
			t.Errorf("%s was seen: %v", test.name, err)
		case test.seen.WentBack && !strings.Contains(e.Hint, path):
			t.Errorf("%s was seen, and nobody says what to remove: %s", test.name, e.Hint)
		}
	}

	moved, err := db.Advance(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, seen := range []marks{{Ledger: now.Ledger + 1, Audit: 1000, Head: "00", Lists: 1000, WentBack: true}, {Ledger: moved.Ledger}} {
		write(t, path, seen)
		if _, err := highwater.Open(t.Context(), path, db); err != nil {
			t.Errorf("moved on, and refused for %+v: %v", seen, err)
		}
	}
	write(t, path, marks{Ledger: moved.Ledger + 1})
	if _, err := highwater.Open(t.Context(), path, db); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("less than was seen since it was moved on: %v", err)
	}

	// A file that cannot be read is no file that is not there.
	refused := func(what string, spoiled error) {
		t.Helper()
		if spoiled != nil {
			t.Fatal(spoiled)
		}
		_, err := highwater.Open(t.Context(), path, db)
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindFailedPrecondition || !strings.Contains(err.Error(), path) || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("damaged", os.WriteFile(path, []byte(`{"ledger":"1"}`), 0o600))
	refused("a directory", errors.Join(os.Remove(path), os.Mkdir(path, 0o700)))
}

// Marks follow the database, are written where they changed, and remember that it went back.
func TestSave(t *testing.T) {
	t.Parallel()
	db, path := testdb.SQLite(t), filepath.Join(t.TempDir(), "highwater.json")
	m, err := highwater.Open(t.Context(), path, db)
	if err != nil {
		t.Fatal(err)
	}
	kept := func() (seen marks) {
		t.Helper()
		if err := m.Save(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return marks{}
		}
		if err := json.Unmarshal(text, &seen); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if seen := kept(); seen != (marks{}) {
		t.Errorf("of an empty database %+v is kept", seen)
	}
	now := happen(t, db)
	want := marks{Ledger: now.Ledger, Audit: now.Audit.Seq, Head: hex.EncodeToString(now.Audit.Head[:]), Lists: now.Lists}
	if err := m.Compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seen := kept(); seen != want {
		t.Errorf("%+v is kept, want %+v", seen, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if seen := kept(); seen != (marks{}) {
		t.Errorf("%+v is written though nothing changed", seen)
	}
	m.WentBack()
	if want.WentBack = true; kept() != want {
		t.Error("that it went back is not kept")
	}
	if _, err := highwater.Open(t.Context(), path, db); pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("after it went back: %v", err)
	}

	lost, err := highwater.Open(t.Context(), filepath.Join(t.TempDir(), "nowhere", "highwater.json"), db)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*pki.Error](lost.Save()); !ok || e.Kind != pki.KindUnavailable || e.Hint == "" {
		t.Errorf("nowhere to write: %v", e)
	}
}

// The file keeps its owner, whichever user writes it.
func TestSaveKeepsTheOwner(t *testing.T) {
	t.Parallel()
	db, path := testdb.SQLite(t), filepath.Join(t.TempDir(), "highwater.json")
	write(t, path, marks{})
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	user, group := os.Getuid(), os.Getgid()
	if user == 0 { // as who looks why the server does not start; others cannot give files away
		user, group = 4711, 4712
	}
	if err := os.Chown(path, user, group); err != nil {
		t.Fatal(err)
	}
	happen(t, db)
	m, err := highwater.Open(t.Context(), path, db)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != user || int(owner.Gid) != group || info.Mode() != 0o640 || info.Size() < 20 {
		t.Errorf("%v, user %d, group %d, %d octets; want -rw-r-----, %d, %d", info.Mode(), owner.Uid, owner.Gid, info.Size(), user, group)
	}
}

func isWentBack(err error) bool {
	_, ok := errors.AsType[*highwater.WentBackError](err)
	return ok
}
