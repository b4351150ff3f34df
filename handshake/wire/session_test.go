package wire_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
)

// session is one connection between two ends of crypto/tls with a Tap on each.
type session struct {
	client, server       []wire.Step
	clientErr, serverErr error
	clientState          tls.ConnectionState
	clientTap, serverTap *wire.Tap
}

// step returns the step of a name, and fails without.
func step(t testing.TB, steps []wire.Step, name string) wire.Step {
	t.Helper()
	for _, s := range steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %q in %v", name, names(steps))
	return wire.Step{}
}

func names(steps []wire.Step) []string {
	var list []string
	for _, s := range steps {
		list = append(list, s.Name)
	}
	return list
}

// tell judges as package handshake would: in VerifyConnection, before crypto/tls goes on.
func tell(tap *wire.Tap, cfg *tls.Config) *tls.Config {
	cfg = tap.Watch(cfg)
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if verify != nil {
			if err := verify(cs); err != nil {
				return err
			}
		}
		if len(cs.PeerCertificates) > 0 {
			tap.Judged(wire.Trust{Accepted: true, Root: "CN=Test Root"})
			tap.Checked(wire.Revocation{Accepted: true})
		}
		return nil
	}
	return cfg
}

// run makes a connection, lets the server echo one message, and closes it. Errors of either end stay in the session.
func run(t testing.TB, server, client *tls.Config) *session {
	t.Helper()
	clientConn, serverConn := loopback(t)
	return runOn(t, clientConn, serverConn, server, client)
}

func runOn(t testing.TB, clientConn, serverConn net.Conn, server, client *tls.Config) *session {
	t.Helper()
	return runSharing(t, clientConn, serverConn, server, client, [2]*wire.Sessions{})
}

// runSharing is runOn with the sessions that the Taps of client and server know.
func runSharing(t testing.TB, clientConn, serverConn net.Conn, server, client *tls.Config, shared [2]*wire.Sessions) *session {
	t.Helper()
	s := new(session)
	s.clientTap = wire.NewTap(clientConn, wire.Config{DemandClose: true, Sessions: shared[0], Step: func(st wire.Step) { s.client = append(s.client, st) }})
	s.serverTap = wire.NewTap(serverConn, wire.Config{Role: wire.Server, DemandClose: true, Sessions: shared[1], Step: func(st wire.Step) { s.server = append(s.server, st) }})
	var wait sync.WaitGroup
	wait.Go(func() {
		conn := tls.Server(s.serverTap, tell(s.serverTap, server))
		defer conn.Close()
		s.serverErr = conn.HandshakeContext(t.Context())
		s.serverTap.Done(s.serverErr)
		if s.serverErr == nil {
			_, s.serverErr = io.Copy(conn, conn)
		}
	})
	wait.Go(func() {
		conn := tls.Client(s.clientTap, tell(s.clientTap, client))
		defer conn.Close()
		s.clientErr = conn.HandshakeContext(t.Context())
		s.clientTap.Done(s.clientErr)
		if s.clientErr == nil {
			s.clientState = conn.ConnectionState()
			s.clientErr = echo(conn)
		}
	})
	wait.Wait()
	return s
}

const message = "the quick brown fox"

var (
	errOther = errors.New("other octets came back than were sent") // what TLS must never allow
	errShort = errors.New("fewer octets came back than were sent") // the server ended early, and said so properly
)

func echo(conn *tls.Conn) error {
	_, err := io.WriteString(conn, message)
	if err == nil {
		err = conn.CloseWrite()
	}
	// A peer that has left already may have said why: that is to be read even if nothing can be written any more.
	got, readErr := io.ReadAll(conn)
	switch {
	case readErr != nil:
		return readErr
	case !strings.HasPrefix(message, string(got)):
		return errOther
	case err == nil && len(got) < len(message):
		return errShort
	}
	return err
}

func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Minute) // so that a hang is a failure
	for _, c := range []net.Conn{client, server} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return client, server
}
