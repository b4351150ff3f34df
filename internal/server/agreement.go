package server

import (
	"context"
	"errors"
	"time"

	"signet.example/signet/crl/crlserver"
)

const (
	agreementInterval = 10 * time.Second
	agreementRound    = agreementInterval / agreementRest
	agreementRest     = 100 // times as long as a round took, so that lists of any length are compared and cost a hundredth
)

// compareProducts is the self-monitor: a list, and as many more as a tenth of a second suffices for, is read back from the octets
// that clients get, its signature verified, and its entries held against the ledger at the list's own sequence. What disagrees is counted and logged; it
// never should.
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
		for compared := 0; compared < len(lists) && (compared == 0 || time.Since(began) < agreementRound); compared++ {
			s.compareList(ctx, lists[next%len(lists)].Head.List)
			next++
		}
		timer.Reset(max(agreementInterval, agreementRest*time.Since(began)))
	}
}

func (s *Server) compareList(ctx context.Context, list crlserver.List) {
	err := s.publisher.Compare(ctx, list)
	if err == nil || ctx.Err() != nil {
		return
	}
	if _, ok := errors.AsType[*crlserver.DisagreementError](err); !ok {
		s.report("self-monitor")(err)
		return
	}
	s.disagreements.Add(1)
	s.log.Error("a published list and the ledger disagree", "list", list.String(), "error", err.Error(),
		"next", "keep the list, the database and this log, and report it: this is a bug or damage")
}
