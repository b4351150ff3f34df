package handshake_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// silent accepts connections and says nothing. Every connection is handed over when it has sent something.
func silent(t *testing.T) (address string, accepted chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	accepted = make(chan net.Conn)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1))
			select {
			case accepted <- conn:
			case <-t.Context().Done():
				conn.Close()
			}
		}
	}()
	return listener.Addr().String(), accepted
}

// TestSilentTransport: a connection to a server that says nothing in TLS ends, although the request that wanted it ended before.
func TestSilentTransport(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	transport, err := p.Checker(nil).Transport(p.ClientConfig(p.Cert("leaf")))
	if err != nil {
		t.Fatal(err)
	}
	transport.TLSHandshakeTimeout = 10 * time.Millisecond
	address, accepted := silent(t)
	ctx, giveUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := transport.RoundTrip(request)
		done <- err
	}()
	conn := <-accepted
	defer conn.Close()
	giveUp()
	if err := <-done; err == nil {
		t.Error("a silent server answered")
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection of a request that is over is still open")
	}
}

// TestHandshakeTimeout: a peer that keeps the handshake waiting is told as a timeout, before its certificate is there and after it was judged;
// the judging itself does not count, since an Override may ask a person.
func TestHandshakeTimeout(t *testing.T) {
	const patience = time.Minute
	p := handshaketest.New(t, "root -> leaf expired")
	for name, test := range map[string]struct {
		silentBefore, silentAfter bool
		judging                   time.Duration
	}{
		"silent from the first":            {silentBefore: true},
		"silent once judged":               {silentAfter: true},
		"silent once judged for long":      {silentAfter: true, judging: 2 * patience},
		"judged for long":                  {judging: 2 * patience},
		"judged for nearly the whole time": {judging: patience - time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			now := p.Now() // that of the network, which the status service is on
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				ctx, end := context.WithCancel(t.Context())
				defer end()
				peer := &mute{Conn: theirs, end: ctx.Done()}
				peer.mute.Store(test.silentBefore)
				checker := p.Checker(func(c *handshake.Config) {
					c.Override = func(*handshake.Result) handshake.Answer {
						time.Sleep(test.judging)
						peer.mute.Store(test.silentAfter)
						return handshake.OverrideAccept
					}
				})
				config := p.ClientConfig(p.Cert("leaf"))
				config.Time = func() time.Time { return now }
				// The last word of a handshake of this version is the server's.
				config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
				wrapped, err := checker.WrapClient(config)
				if err != nil {
					t.Fatal(err)
				}
				go tls.Server(peer, p.ServerConfig(p.Cert("leaf"), nil)).HandshakeContext(ctx)
				dialer := &handshake.Dialer{Checker: checker, HandshakeTimeout: patience}
				err = dialer.TestingOnlyHandshake(ctx, tls.Client(ours, wrapped), wrapped)
				if want := test.silentBefore || test.silentAfter; errors.Is(err, os.ErrDeadlineExceeded) != want || !want && err != nil {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// mute is a connection on which nothing more is read, and so nothing more answered, when it says so.
type mute struct {
	net.Conn
	mute atomic.Bool
	end  <-chan struct{}
}

func (m *mute) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if m.mute.Load() {
		<-m.end
		return 0, net.ErrClosed
	}
	return n, err
}

// TestEncryptedClientHelloRejected: a server that rejects encrypted client hello is judged too, before its keys are used for another attempt.
func TestEncryptedClientHelloRejected(t *testing.T) {
	for drawing, revoked := range map[string]bool{"root -> leaf": false, "root -> leaf revoked": true} {
		p := handshaketest.New(t, drawing)
		leaf := p.Cert("leaf")
		server, client := p.ServerConfig(leaf, nil), p.ClientConfig(leaf)
		own, other := helloKey(t, 1), helloKey(t, 2)
		server.EncryptedClientHelloKeys = []tls.EncryptedClientHelloKey{own}
		client.EncryptedClientHelloConfigList = append([]byte{byte(len(other.Config) >> 8), byte(len(other.Config))}, other.Config...)
		address := p.Listen(server)
		result, err := dial(t, p.Checker(nil), client, address)
		if revoked {
			if _, ok := errors.AsType[*handshake.RevokedError](err); !ok || result.Err() == nil {
				t.Errorf("a revoked server that rejects: %v", err)
			}
			continue
		}
		rejected, ok := errors.AsType[*tls.ECHRejectionError](err)
		if !ok || len(rejected.RetryConfigList) == 0 || result.Err() != nil {
			t.Fatalf("a good server that rejects: %v", err)
		}
		client.EncryptedClientHelloConfigList = rejected.RetryConfigList
		if _, err := dial(t, p.Checker(nil), client, address); err != nil {
			t.Errorf("with the keys that it offered: %v", err)
		}
		client.EncryptedClientHelloConfigList = append([]byte{byte(len(other.Config) >> 8), byte(len(other.Config))}, other.Config...)
		client.EncryptedClientHelloRejectionVerify = func(tls.ConnectionState) error { return nil }
		_, err = dial(t, p.Checker(nil), client, address)
		if rejected, ok := errors.AsType[*tls.ECHRejectionError](err); !ok || rejected.RetryConfigList != nil {
			t.Errorf("of a server that nobody verified: %+v", err)
		}
	}
}

// helloKey makes a key for encrypted client hello with the public name leaf.test (RFC 9849, Section 4).
func helloKey(t *testing.T, id byte) tls.EncryptedClientHelloKey {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := append([]byte{id, 0, 0x20, 0, 32}, key.PublicKey().Bytes()...) // DHKEM(X25519, HKDF-SHA256)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 32)                          // HKDF-SHA256 with AES-128-GCM; names of up to 32 octets
	contents = append(append(contents, 9), "leaf.test"...)
	contents = append(contents, 0, 0)
	config := append([]byte{0xfe, 0x0d, 0, byte(len(contents))}, contents...)
	return tls.EncryptedClientHelloKey{Config: config, PrivateKey: key.Bytes(), SendAsRetry: true}
}
