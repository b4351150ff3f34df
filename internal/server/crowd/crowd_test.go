package crowd_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"signet.example/signet/internal/server/crowd"
)

// from is a listener whose connections come from addresses of one's choice.
type from struct {
	net.Listener
	addresses chan string
}

func (f from) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fromConn{conn, <-f.addresses}, nil
}

type fromConn struct {
	net.Conn
	address string
}

func (c fromConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.address), Port: 1234} }

// TestCrowd: one address has its share and no more, all together have theirs, and a closed connection makes room.
func TestCrowd(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addresses := make(chan string, 1)
	crowd := crowd.New(from{inner, addresses}, 4, 2)
	accepted := make(chan net.Conn, 10)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := crowd.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	dial := func(address string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		addresses <- address
		return conn
	}
	taken := func(conn net.Conn) net.Conn {
		t.Helper()
		select {
		case c := <-accepted:
			return c
		case <-time.After(time.Minute):
			t.Fatal("it was not accepted")
			return nil
		}
	}
	refused := func(conn net.Conn) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) || isTimeout(err) {
			t.Errorf("it was not closed: %v", err)
		}
	}
	first := taken(dial("2001:db8:1:2::1"))
	taken(dial("2001:db8:1:2:ffff::2"))
	refused(dial("2001:db8:1:2::3")) // the same /64
	taken(dial("2001:db8:1:3::1"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	_ = first.Close() // counts once
	taken(dial("2001:db8:1:2::4"))
	taken(dial("192.0.2.1"))
	waiting, err := net.Dial("tcp", inner.Addr().String()) // the fifth waits in the kernel
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	select {
	case <-accepted:
		t.Error("more than there is room for")
	case <-time.After(50 * time.Millisecond):
	}
	if err := crowd.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Accept did not end")
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
