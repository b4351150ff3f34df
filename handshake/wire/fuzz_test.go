package wire_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"signet.example/signet/handshake/wire"
)

// FuzzTap lets any octets pass in both directions. The Tap may lose its way, and then it says so; it may not panic, hold
// up an octet, change one, or print what a terminal would obey.
func FuzzTap(f *testing.F) {
	ca := newCA(f)
	cert := ca.leaf(f, "server.example", rsaKey(f))
	client := &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"}
	for _, change := range []func(*tls.Config) *tls.Config{
		func(c *tls.Config) *tls.Config { return c },
		wire.Classical,
		func(c *tls.Config) *tls.Config { c = c.Clone(); c.MaxVersion = tls.VersionTLS12; return c },
	} {
		sent, received := overheard(f, change(&tls.Config{Certificates: []tls.Certificate{cert}}), change(client))
		f.Add(sent, received, uint8(7), false)
		f.Add(sent, received, uint8(255), true)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"), []byte("HTTP/1.1 400 \x1b[31mBad\r\n"), uint8(3), false)
	f.Fuzz(func(t *testing.T, sent, received []byte, piece uint8, server bool) {
		var out bytes.Buffer
		show := wire.Printer{W: &out}
		role := wire.Client
		if server {
			role = wire.Server
		}
		conn := &puppet{in: bytes.NewReader(received)}
		tap := wire.NewTap(conn, wire.Config{Role: role, Step: func(s wire.Step) {
			if err := show.Step(s); err != nil {
				t.Error(err)
			}
		}})
		got := converse(t, tap, sent, int(piece)+1)
		tap.Judged(wire.Trust{Accepted: true})
		tap.Done(nil)
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, received) || !bytes.Equal(conn.out.Bytes(), sent) {
			t.Errorf("octets were changed on their way")
		}
		if strings.ContainsAny(out.String(), "\x1b\x07\x08\r") {
			t.Errorf("a terminal would obey this: %q", out.String())
		}
	})
}

// converse writes and reads in turns, in pieces.
func converse(t *testing.T, tap *wire.Tap, sent []byte, piece int) []byte {
	var got []byte
	buffer := make([]byte, piece)
	for more := true; more || len(sent) > 0; {
		n := min(piece, len(sent))
		if _, err := tap.Write(sent[:n]); err != nil {
			t.Fatal(err)
		}
		sent = sent[n:]
		n, err := tap.Read(buffer)
		got, more = append(got, buffer[:n]...), err == nil
	}
	return got
}

// puppet is a peer that has said everything already.
type puppet struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (p *puppet) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *puppet) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *puppet) Close() error                { return nil }

// overheard is what passes in one connection, both ways.
func overheard(t testing.TB, server, client *tls.Config) (sent, received []byte) {
	left, right := loopback(t)
	record := &recorder{Conn: left}
	s := runOn(t, record, right, server, client)
	if s.clientErr != nil {
		t.Fatal(s.clientErr)
	}
	return record.sent.Bytes(), record.received.Bytes()
}

type recorder struct {
	net.Conn
	sent, received bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.received.Write(p[:n])
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	r.sent.Write(p)
	return r.Conn.Write(p)
}
