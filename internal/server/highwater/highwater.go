// Package highwater remembers, on disk too, how far the database had come when this process and earlier ones last
// looked. A database that shows less, or another past, went back in time: it was restored, cloned, or failed over to a
// replica that lagged behind. Numbers would be used twice, so nothing may be issued or published from it
// (docs/OPERATIONS.md, "A database that went back").
package highwater

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// Memory is what was seen of a database. It is safe for concurrent use.
type Memory struct {
	path string
	db   store.Recovery

	mu   sync.Mutex // guards the rest
	seen marks
	kept marks
}

// marks is a store.Witness in the form of the file.
type marks struct {
	Ledger uint64 `json:"ledger"`
	Audit  uint64 `json:"audit"`
	Head   string `json:"head,omitempty"`  // of the audit chain at Audit; differs in a copy that has grown past it
	Lists  uint64 `json:"lists,omitempty"` // publications

	// WentBack is set when the database went back while this instance ran. It counts until `signet restore` has moved
	// the database on, whatever the database shows at the next start.
	WentBack bool `json:"went_back,omitempty"`
}

func marksOf(w store.Witness) marks {
	m := marks{Ledger: w.Ledger, Audit: w.Audit.Seq, Lists: w.Lists}
	if w.Audit.Seq > 0 {
		m.Head = hex.EncodeToString(w.Audit.Head[:])
	}
	return m
}

// era returns how often `signet restore` has moved a ledger on (store.Recovery). Marks of an earlier era mean nothing:
// the audit log and part of the ledger continue from where the older copy ended.
func era(ledger uint64) uint64 { return ledger / store.LostSequences }

// Open reads the marks in the file at path and compares them. The error is a *WentBackError if the database went back
// while no process was watching.
func Open(ctx context.Context, path string, db store.Recovery) (*Memory, error) {
	m := &Memory{path: path, db: db}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, pki.Errorf(pki.KindFailedPrecondition, "read high water marks", "%w", err).
			WithHint("it has to be a file of the user that runs signet serve: if that was root once, give it back with chown")
	default:
		if err := json.Unmarshal(text, &m.seen); err != nil {
			return nil, pki.Errorf(pki.KindFailedPrecondition, "read high water marks", "%s: %w", path, err).
				WithHint("the file is damaged; if you are sure that the database was not restored from a backup, remove the file")
		}
		m.kept = m.seen
	}
	if err := m.Compare(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// WentBackError says that a database went back in time, and how that shows. It is wrapped in a *pki.Error of
// KindFailedPrecondition whose hint says what to do. No other error means this: a database that does not answer may be
// unchanged.
type WentBackError struct{ Why string }

// Error returns Why.
func (e *WentBackError) Error() string { return e.Why }

func wentBack(hint, why string, args ...any) error {
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "compare high water marks", Err: &WentBackError{fmt.Sprintf(why, args...)}}).WithHint("%s", hint)
}

// Compare returns a *WentBackError if the database shows less than was seen, or another past. Any other error means
// that the comparison was not possible.
func (m *Memory) Compare(ctx context.Context) error {
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	witness, then, err := m.db.Witness(ctx, seen.Audit)
	if err != nil {
		return err
	}
	if era(witness.Ledger) <= era(seen.Ledger) {
		if err := seen.compare(witness, then, m.path); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = marksOf(witness)
	return nil
}

// compare compares what the database shows now, and the head that its audit chain had at m.Audit, with the marks.
func (m marks) compare(now store.Witness, then audit.Hash, path string) error {
	const hint = "issuing from it would use numbers twice: take `signet restore --in-place`, which skips what may be lost"
	if m.WentBack {
		return wentBack("issuing from it would use numbers twice: take `signet restore --in-place`; only if the database that did not go back is in its place again, remove "+path,
			"this database went back in time while it was in use, and was not moved on since")
	}
	for _, each := range []struct {
		name      string
		now, seen uint64
	}{{"ledger ends at", now.Ledger, m.Ledger}, {"audit log ends at", now.Audit.Seq, m.Audit}, {"number of publications is", now.Lists, m.Lists}} {
		if each.now < each.seen {
			return wentBack(hint, "the %s %d, and %d was seen before: this database went back in time", each.name, each.now, each.seen)
		}
	}
	if m.Head != "" && m.Head != hex.EncodeToString(then[:]) {
		return wentBack(hint, "the audit log has another past than was seen at event %d: this database went back in time, and was used since", m.Audit)
	}
	return nil
}

// WentBack makes the next start refuse the database too.
func (m *Memory) WentBack() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.WentBack = true
}

// Save writes the marks if they changed. An existing file keeps its owner: running signet serve as root once, to see
// why it does not start, must not take the file away from its usual user.
func (m *Memory) Save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == m.kept {
		return nil
	}
	text, err := json.Marshal(m.seen)
	if err != nil {
		return err
	}
	if err := durable.Rewrite(m.path, append(text, '\n'), 0o600); err != nil {
		return pki.Errorf(pki.KindUnavailable, "write high water marks", "%w", err).WithHint("is the disk full, or the state directory read-only?")
	}
	m.kept = m.seen
	return nil
}
