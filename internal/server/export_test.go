package server

import (
	"context"
	"net"
)

// TestingOnlyCrowd is what the listeners are wrapped in.
func TestingOnlyCrowd(l net.Listener, most, each int) net.Listener { return newCrowd(l, most, each) }

// TestingOnlyCompare compares every list that is served with the ledger now: the self-monitor takes one in ten seconds.
func (s *Server) TestingOnlyCompare(ctx context.Context) {
	for _, list := range s.publisher.Lists() {
		s.compareList(ctx, list.Head.List)
	}
}
