package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// highWater remembers, on disk too, how far the database had come when this process and those before it last looked. One
// that shows less, or another past, went back in time: it was restored, cloned, or failed over to a replica that was
// behind. Numbers would be used twice, so nothing is issued or published from it (docs/OPERATIONS.md, "A database that went
// back").
type highWater struct {
	path string

	mu   sync.Mutex // guards the rest
	seen marks
	kept marks
}

// marks are a store.Witness as it is kept in a file.
type marks struct {
	Ledger uint64 `json:"ledger"`
	Audit  uint64 `json:"audit"`
	Head   string `json:"head,omitempty"`  // of the audit chain at Audit: a copy that grew past the numbers since has another one there
	Lists  uint64 `json:"lists,omitempty"` // CRL numbers

	// WentBack is set when the database went back while this instance ran, and counts until `signet restore` has moved it
	// on, whatever it shows at the next start.
	WentBack bool `json:"went_back,omitempty"`
}

func marksOf(w store.Witness) marks {
	m := marks{Ledger: w.Ledger, Audit: w.Audit.Seq, Lists: w.Lists}
	if w.Audit.Seq > 0 {
		m.Head = hex.EncodeToString(w.Audit.Head[:])
	}
	return m
}

// era is how often `signet restore` moved a ledger on (store.Recovery). What was seen before says nothing after it: the
// audit log and part of the ledger go on from where the older copy ended.
func era(ledger uint64) uint64 { return ledger / store.LostSequences }

// highWaterInterval is how often the marks are compared and written.
const highWaterInterval = 2 * time.Second

// openHighWater refuses a database that went back while nobody looked.
func (s *Server) openHighWater(ctx context.Context) error {
	s.highWater.path = s.config.State().HighWater()
	text, err := os.ReadFile(s.highWater.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return pki.Errorf(pki.KindFailedPrecondition, "read high water marks", "%w", err)
	default:
		if err := json.Unmarshal(text, &s.highWater.seen); err != nil {
			return pki.Errorf(pki.KindFailedPrecondition, "read high water marks", "%s: %w", s.highWater.path, err).
				WithHint("the file is damaged; if you are sure that the database was not restored from a backup, remove the file")
		}
		s.highWater.kept = s.highWater.seen
	}
	return s.compareHighWater(ctx)
}

// compareHighWater returns an error of KindFailedPrecondition if the database shows less than was seen, or another past.
func (s *Server) compareHighWater(ctx context.Context) error {
	h := &s.highWater
	h.mu.Lock()
	seen := h.seen
	h.mu.Unlock()
	witness, then, err := s.store.Witness(ctx, seen.Audit)
	if err != nil {
		return err
	}
	if era(witness.Ledger) <= era(seen.Ledger) {
		if err := seen.compare(witness, then, h.path); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = marksOf(witness)
	return nil
}

// compare holds what the database shows now, and the head that its audit chain had at m.Audit, against the marks.
func (m marks) compare(now store.Witness, then audit.Hash, path string) error {
	const op, hint = "compare high water marks", "issuing from it would use numbers twice: take `signet restore --in-place`, which skips what may be lost"
	if m.WentBack {
		return pki.Errorf(pki.KindFailedPrecondition, op, "this database went back in time while it was in use, and was not moved on since").
			WithHint("issuing from it would use numbers twice: take `signet restore --in-place`; only if the database that did not go back is in its place again, remove %s", path)
	}
	for _, each := range []struct {
		name      string
		now, seen uint64
	}{{"ledger ends at", now.Ledger, m.Ledger}, {"audit log ends at", now.Audit.Seq, m.Audit}, {"sum of CRL numbers is", now.Lists, m.Lists}} {
		if each.now < each.seen {
			return pki.Errorf(pki.KindFailedPrecondition, op, "the %s %d, and %d was seen before: this database went back in time", each.name, each.now, each.seen).WithHint(hint)
		}
	}
	if m.Head != "" && m.Head != hex.EncodeToString(then[:]) {
		return pki.Errorf(pki.KindFailedPrecondition, op, "the audit log has another past than was seen at event %d: this database went back in time, and was used since", m.Audit).WithHint(hint)
	}
	return nil
}

// wentBack makes the next start refuse the database too.
func (h *highWater) wentBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen.WentBack = true
}

// save writes the marks if they changed.
func (h *highWater) save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.path == "" || h.seen == h.kept {
		return nil
	}
	text, err := json.Marshal(h.seen)
	if err != nil {
		return err
	}
	if err := durable.Replace(h.path, append(text, '\n'), 0o600); err != nil {
		return pki.Errorf(pki.KindUnavailable, "write high water marks", "%w", err).WithHint("is the disk full, or the state directory read-only?")
	}
	h.kept = h.seen
	return nil
}

// watchHighWater goes on comparing: a failover to a replica that was behind happens while everything runs. What is
// already known is served on; the instance stops issuing and publishing, and says so.
func (s *Server) watchHighWater(ctx context.Context) error {
	ticker := time.NewTicker(highWaterInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := s.compareHighWater(ctx)
		switch {
		case err == nil:
			err = s.highWater.save()
		case pki.KindOf(err) == pki.KindFailedPrecondition && s.fallenBack.Load() == nil:
			s.fallenBack.Store(new(err.Error()))
			s.highWater.wentBack()
			err = errors.Join(err, s.highWater.save())
			if s.authority != nil {
				s.authority.Halt()
			}
			close(s.fallen)
			err = errors.Join(err, s.ledger.Close()) // a revocation would take a sequence that was used before
		}
		if err != nil && ctx.Err() == nil {
			s.report("high water marks")(err)
		}
	}
}
