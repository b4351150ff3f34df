package server

import (
	"context"
	"errors"
	"time"

	"signet.example/signet/internal/server/highwater"
)

// openHighWater refuses a database that went back while nobody looked.
func (s *Server) openHighWater(ctx context.Context) (err error) {
	s.highWater, err = highwater.Open(ctx, s.config.State().HighWater(), s.store)
	return err
}

// highWaterInterval is how often the marks are compared and written.
const highWaterInterval = 2 * time.Second

// compareHighWater is called on and on: a failover to a replica that was behind happens while everything runs. What is
// already known is served on; the instance stops issuing and publishing, and says so.
func (s *Server) compareHighWater(ctx context.Context) {
	err := s.highWater.Compare(ctx)
	_, wentBack := errors.AsType[*highwater.WentBackError](err)
	switch {
	case err == nil:
		err = s.highWater.Save()
	case wentBack && s.fallenBack.Load() == nil:
		why := err.Error()
		if s.authority != nil {
			s.authority.Halt()
		}
		s.ledger.Halt() // a revocation would take a sequence that was used before
		close(s.fallen)
		s.fallenBack.Store(&why) // who reads it finds that nothing new begins; what has begun may take as long as its commit
		s.highWater.WentBack()
		err = errors.Join(err, s.highWater.Save(), s.ledger.Close())
	}
	if err != nil && ctx.Err() == nil {
		s.report("high water marks")(err)
	}
}
