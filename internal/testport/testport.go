// Package testport finds TCP ports for programs that tests start and that have to be told theirs.
package testport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that a socket gets which asks for any: 32768 and more on Linux, 49152 and more by RFC 6335, Section 6. One of
// those may be the end of somebody's connection before the program listens. And above those of server.FreeAddresses, which knows of no claims: a demo
// runs beside other tests.
const (
	first = 20_000
	end   = 32_000
)

// Claim returns a port of the loopback on which nobody listens. No other process that claims one gets it before giveBack is called.
func Claim() (port string, giveBack func(), err error) {
	for range 100 {
		port = strconv.Itoa(first + rand.IntN(end-first))
		address := net.JoinHostPort("127.0.0.1", port)
		claim, busy := net.ListenPacket("udp", address) // whoever has the UDP port has the right to the TCP port
		if busy != nil {
			continue
		}
		listener, busy := net.Listen("tcp", address)
		if busy != nil {
			claim.Close()
			continue
		}
		listener.Close()
		return port, func() { claim.Close() }, nil
	}
	return "", nil, errors.New("no port of a hundred is free")
}

// Free is Claim until the test ends.
func Free(t testing.TB) string {
	t.Helper()
	port, giveBack, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(giveBack)
	return port
}
