package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// highWater remembers, on disk too, the highest sequences that this process and those before it saw. A database that
// shows smaller ones went back in time: it was restored, cloned, or failed over to a replica that was behind. Numbers
// would be used twice, so nothing is issued or published from it (docs/OPERATIONS.md, "A database that went back").
type highWater struct {
	path string

	mu   sync.Mutex // guards the rest
	seen marks
	kept marks
}

type marks struct {
	Ledger uint64 `json:"ledger"`
	Audit  uint64 `json:"audit"`

	// WentBack is set when the database went back while this instance ran, and counts until `signet restore` has moved it
	// on: its sequences grow again, with audit events of refused calls if with nothing else, and will have passed the
	// marks by the next start.
	WentBack bool `json:"went_back,omitempty"`
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

// compareHighWater returns an error of KindFailedPrecondition if the database shows less than was seen.
func (s *Server) compareHighWater(ctx context.Context) error {
	ledger, err := s.store.LedgerHead(ctx)
	if err != nil {
		return err
	}
	audit, err := s.store.AuditHead(ctx)
	if err != nil {
		return err
	}
	h := &s.highWater
	h.mu.Lock()
	defer h.mu.Unlock()
	if era(ledger) > era(h.seen.Ledger) {
		h.seen = marks{Ledger: ledger, Audit: audit.Seq}
		return nil
	}
	if h.seen.WentBack {
		return pki.Errorf(pki.KindFailedPrecondition, "compare high water marks", "this database went back in time while it was in use, and was not moved on since").
			WithHint("issuing from it would use numbers twice: take `signet restore --in-place`; only if the database that did not go back is in its place again, remove %s", h.path)
	}
	for _, each := range []struct {
		name      string
		now, seen uint64
	}{{"ledger", ledger, h.seen.Ledger}, {"audit log", audit.Seq, h.seen.Audit}} {
		if each.now < each.seen {
			return pki.Errorf(pki.KindFailedPrecondition, "compare high water marks", "the %s ends at %d, and %d was seen before: this database went back in time", each.name, each.now, each.seen).
				WithHint("issuing from it would use numbers twice: take `signet restore --in-place`, which skips what may be lost")
		}
	}
	h.seen = marks{Ledger: ledger, Audit: audit.Seq}
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
	if err := replaceFile(h.path, append(text, '\n')); err != nil {
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

// replaceFile replaces a file whole and durably.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
