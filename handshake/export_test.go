package handshake

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// TestingOnlyHandshake is what Dial does once it is connected, over a connection that need not be on a network.
func (d *Dialer) TestingOnlyHandshake(ctx context.Context, conn *tls.Conn, wrapped *tls.Config) error {
	return d.handshake(ctx, conn, wrapped)
}

// TestingOnlyIdle reports whether nothing is being refreshed in the background, no question has outlived its handshake, and
// nothing is being written.
func (c *Checker) TestingOnlyIdle() bool {
	if len(c.refresh) > 0 || len(c.waiting) > 0 {
		return false
	}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	return !c.disk.isWriting
}

// TestingOnlyUnwritten is how much waits for the disk.
func (c *Checker) TestingOnlyUnwritten() int {
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	return len(c.disk.byKey)
}

// TestingOnlyHoldDisk keeps what rounds write waiting until the function is called.
func (c *Checker) TestingOnlyHoldDisk() (release func()) {
	held, over := make(chan struct{}), make(chan struct{})
	c.disk.remember("held", func() { close(held); <-over })
	<-held
	return func() { close(over) }
}

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

// TestingOnlyRemember remembers a revocation of a certificate that is named by a number, until a time.
func (c *Checker) TestingOnlyRemember(number uint64, until time.Time) {
	c.memory.keep(testingOnlyKey(number), Evidence{Status: pki.StatusRevoked, Final: true}, until, c.config.Now())
}

// TestingOnlyRecalls reports whether the revocation of such a certificate is remembered.
func (c *Checker) TestingOnlyRecalls(number uint64) bool {
	_, known := c.memory.recall(testingOnlyKey(number))
	return known
}

func testingOnlyKey(number uint64) (key certificateKey) {
	binary.BigEndian.PutUint64(key[:], number)
	return key
}
