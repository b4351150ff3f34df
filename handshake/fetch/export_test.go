package fetch

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// TestingOnlyConnect gives a Fetcher peers that are not on a network: connect makes the connection to an address that
// was judged as one of a real connection is. Names do not resolve.
func (f *Fetcher) TestingOnlyConnect(connect func(netip.AddrPort) net.Conn) {
	f.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		network := map[bool]string{true: "tcp4", false: "tcp6"}[at.Addr().Is4()]
		if err := f.guardAddress(ctx, network, address, nil); err != nil {
			return nil, err
		}
		return connect(at), nil
	}
}

// TestingOnlyFailures is how many failures are remembered.
func (f *Fetcher) TestingOnlyFailures() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failures)
}
