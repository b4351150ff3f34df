package server

import (
	"context"
	"errors"
	"time"

	"signet.example/signet/internal/server/highwater"
)

// openHighWater refuses a database that went back while no instance was watching.
func (s *Server) openHighWater(ctx context.Context) (err error) {
	s.highWater, err = highwater.Open(ctx, s.config.State().HighWater(), s.store)
	return err
}

// highWaterInterval is how often the marks are compared and written.
const highWaterInterval = 2 * time.Second

// compareHighWater is called periodically, because a failover to a lagging replica happens while everything runs. If
// the database went back, the instance continues to serve what it knows, stops issuing and publishing, and logs it.
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
		s.ledger.Halt() // a revocation would reuse a sequence
		close(s.fallen)
		s.fallenBack.Store(&why) // from here on nothing new begins; work in progress may last until its commit
		s.highWater.WentBack()
		err = errors.Join(err, s.highWater.Save(), s.ledger.Close())
	}
	if err != nil && ctx.Err() == nil {
		s.report("high water marks")(err)
	}
}
