package handshake

import (
	"context"
	"crypto/tls"
	"slices"
	"time"
)

// TestingOnlyHandshake is what Dial does once it is connected, over a connection that need not be on a network.
func (d *Dialer) TestingOnlyHandshake(ctx context.Context, conn *tls.Conn, wrapped *tls.Config) error {
	return d.handshake(ctx, conn, wrapped)
}

// TestingOnlyIdle reports whether nothing is being refreshed in the background, and no question has outlived its handshake.
func (c *Checker) TestingOnlyIdle() bool { return len(c.refresh) == 0 && len(c.waiting) == 0 }

// TestingOnlyEntries is how many entries of lists are in memory.
func (c *Checker) TestingOnlyEntries() int {
	c.lists.mu.Lock()
	defer c.lists.mu.Unlock()
	return c.lists.entries
}

// TestingOnlyInTurn asks places of which "yes" is enough.
func (c *Checker) TestingOnlyInTurn(ctx context.Context, limit time.Duration, places int, ask func(context.Context, int) []string) []string {
	return inTurn(ctx, c, limit, places, ask, func(said []string) bool { return slices.Contains(said, "yes") })
}
