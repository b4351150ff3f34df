// Package crowd bounds the open connections of a listener, in total and per address.
package crowd

import (
	"net"
	"net/netip"
	"sync"
)

// Listener bounds its connections. At the total bound it stops accepting, so that clients wait in the kernel's queue.
// Connections beyond the bound of an address are accepted and closed.
type Listener struct {
	net.Listener
	room chan struct{} // one element for each open connection
	each int
	done chan struct{} // closed by Close
	once sync.Once

	mu   sync.Mutex
	from map[netip.Prefix]int // open connections by network; guarded by mu
}

// New returns a Listener that allows most connections at once, at most each of them from one address.
func New(l net.Listener, most, each int) *Listener {
	return &Listener{Listener: l, room: make(chan struct{}, most), each: each, done: make(chan struct{}), from: make(map[netip.Prefix]int)}
}

// Accept returns the next connection within the bounds.
func (c *Listener) Accept() (net.Conn, error) {
	select {
	case c.room <- struct{}{}:
	case <-c.done:
		return nil, net.ErrClosed
	}
	for {
		accepted, err := c.Listener.Accept()
		if err != nil {
			<-c.room
			return nil, err
		}
		network := networkOf(accepted.RemoteAddr())
		if c.enter(network) {
			return &conn{Conn: accepted, leave: func() { c.leave(network) }}, nil
		}
		_ = accepted.Close() // its address has enough connections
	}
}

// Close stops accepting.
func (c *Listener) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Listener.Close()
}

func (c *Listener) enter(network netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from[network] >= c.each {
		return false
	}
	c.from[network]++
	return true
}

func (c *Listener) leave(network netip.Prefix) {
	c.mu.Lock()
	if c.from[network]--; c.from[network] == 0 {
		delete(c.from, network)
	}
	c.mu.Unlock()
	<-c.room
}

// networkOf returns what counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is what one host
// is given.
func networkOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}

// conn frees its place when it is closed.
type conn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close closes the connection.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}
