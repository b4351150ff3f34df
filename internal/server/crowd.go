package server

import (
	"net"
	"net/netip"
	"sync"
)

// crowd is a listener that bounds how many connections are open, and how many of them one address has. Beyond the first
// bound it does not accept, so that the kernel's queue holds those who wait; beyond the second it closes what it accepted.
type crowd struct {
	net.Listener
	room chan struct{} // one for each open connection
	each int
	done chan struct{} // closed by Close
	once sync.Once

	mu   sync.Mutex
	from map[netip.Prefix]int // guarded by mu
}

// newCrowd bounds a listener: most connections at once, each of one address at most.
func newCrowd(l net.Listener, most, each int) *crowd {
	return &crowd{Listener: l, room: make(chan struct{}, most), each: each, done: make(chan struct{}), from: make(map[netip.Prefix]int)}
}

// Accept returns the next connection that is within the bounds.
func (c *crowd) Accept() (net.Conn, error) {
	select {
	case c.room <- struct{}{}:
	case <-c.done:
		return nil, net.ErrClosed
	}
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			<-c.room
			return nil, err
		}
		network := networkOf(conn.RemoteAddr())
		if c.enter(network) {
			return &crowdConn{Conn: conn, leave: func() { c.leave(network) }}, nil
		}
		_ = conn.Close() // it has enough of them
	}
}

// Close stops accepting.
func (c *crowd) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Listener.Close()
}

func (c *crowd) enter(network netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from[network] >= c.each {
		return false
	}
	c.from[network]++
	return true
}

func (c *crowd) leave(network netip.Prefix) {
	c.mu.Lock()
	if c.from[network]--; c.from[network] == 0 {
		delete(c.from, network)
	}
	c.mu.Unlock()
	<-c.room
}

// networkOf is what counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is what one host is given.
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

// crowdConn gives its place back when it is closed.
type crowdConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close closes the connection.
func (c *crowdConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}
