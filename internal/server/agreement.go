package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"signet.example/signet/crl/crlserver"
)

const (
	agreementInterval = 10 * time.Second
	agreementRound    = agreementInterval / 100
	// agreementRest is the pause between two rounds, as a multiple of the time the last one took. Comparing a long list
	// also pauses for nine tenths of its time, so it costs about a hundredth of one processor.
	agreementRest = 10
)

// compareProducts is the self-monitor. In each round it compares one list, and further lists for up to agreementRound.
// It reads the list back from the octets that clients get, verifies its signature, compares its entries with the ledger
// at the list's own sequence, and compares some of them with what OCSP answers from. Disagreements are counted and
// logged; there should never be one.
func (s *Server) compareProducts(ctx context.Context) error {
	timer := time.NewTimer(agreementInterval)
	defer timer.Stop()
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		began := time.Now()
		lists := s.publisher.Lists()
		s.agreement.forget(lists)
		for compared := 0; compared < len(lists) && (compared == 0 || time.Since(began) < agreementRound); compared++ {
			s.compareList(ctx, lists[next%len(lists)].Head.List)
			next++
		}
		timer.Reset(max(agreementInterval, agreementRest*time.Since(began)))
	}
}

func (s *Server) compareList(ctx context.Context, list crlserver.List) {
	err := s.publisher.Compare(ctx, list)
	if err == nil {
		err = s.publisher.CompareMemory(ctx, list)
	}
	if ctx.Err() != nil {
		return
	}
	_, disagree := errors.AsType[*crlserver.DisagreementError](err)
	if err != nil && !disagree {
		s.report("self-monitor")(err)
		return
	}
	s.agreement.note(list, err)
	if disagree {
		s.log.Error("a published list disagrees with the ledger, or with OCSP", "list", list.String(), "error", err.Error(), "next", whatToKeep)
	}
}

const whatToKeep = "keep the list, the database and the log, and report it: this is a bug or damage"

// agreement holds the results of the comparisons.
type agreement struct {
	mu     sync.Mutex
	broken uint64                    // comparisons that failed
	lists  map[crlserver.List]string // the lists whose last comparison failed, and how
}

// note records a comparison; err is the disagreement or nil.
func (a *agreement) note(list crlserver.List, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.lists, list)
	if err == nil {
		return
	}
	if a.lists == nil {
		a.lists = make(map[crlserver.List]string)
	}
	a.broken++
	a.lists[list] = err.Error()
}

// forget removes lists that are no longer served.
func (a *agreement) forget(served []crlserver.ListStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.lists, func(list crlserver.List, _ string) bool {
		return !slices.ContainsFunc(served, func(s crlserver.ListStatus) bool { return s.Head.List == list })
	})
}

// count returns the number of comparisons that failed since this instance started.
func (a *agreement) count() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken
}

// check warns of lists that disagree with the ledger.
func (a *agreement) check(add func(name, state, detail string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.lists) == 0 {
		add("agreement", "ok", "")
		return
	}
	what := slices.Sorted(maps.Values(a.lists))
	add("agreement", "warning", fmt.Sprintf("%d published lists differ from the ledger, among them %s; %s", len(what), what[0], whatToKeep))
}
