package handshaketest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"

	"net/netip"
)

// Loopback holds the addresses that a fetcher must allow to reach the status service.
var Loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// Config returns a handshake.Config with the clock of this PKI and a fetcher that may reach its status service, and asks
// a name server of its own.
func (p *PKI) Config() handshake.Config {
	fetcher, err := fetch.New(fetch.Config{Allow: Loopback, Now: p.Now, Resolver: p.resolver()})
	p.check(err)
	return handshake.Config{Policy: handshake.HardFail, Fetcher: fetcher, Now: p.Now}
}

// Checker returns a Checker with Config, changed by the function unless that is nil.
func (p *PKI) Checker(change func(*handshake.Config)) *handshake.Checker {
	p.tb.Helper()
	config := p.Config()
	if change != nil {
		change(&config)
	}
	checker, err := handshake.New(config)
	p.check(err)
	return checker
}

// ServerConfig returns a plain server's configuration with a certificate of the drawing.
func (p *PKI) ServerConfig(c *Cert, staple []byte) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.TLS(staple)}, Time: p.Now}
}

// ClientConfig returns a plain client's configuration that trusts the root of c and expects localhost.
func (p *PKI) ClientConfig(c *Cert) *tls.Config {
	return &tls.Config{RootCAs: c.Pool(), ServerName: "localhost", Time: p.Now}
}

// Listen serves TLS on loopback and echoes all data, until the test ends. It returns the address.
func (p *PKI) Listen(config *tls.Config) string {
	p.tb.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	p.check(err)
	return p.ServeEcho(tls.NewListener(inner, config))
}

// ServeEcho echoes on every connection of a listener until the test ends. It returns the address.
func (p *PKI) ServeEcho(listener net.Listener) string {
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				_, _ = io.Copy(conn, conn) // the error of a client that was refused, or refuses
				_ = conn.Close()
			})
		}
	})
	p.tb.Cleanup(func() {
		cancel()
		_ = listener.Close()
		conns.Wait()
	})
	return listener.Addr().String()
}

// Echo writes and reads one octet. Only then a client knows that the server accepted its certificate.
func Echo(conn net.Conn) error {
	if _, err := conn.Write([]byte{'x'}); err != nil {
		return err
	}
	var back [1]byte
	if _, err := io.ReadFull(conn, back[:]); err != nil {
		return err
	}
	if back[0] != 'x' {
		return errors.New("the echo is not what was sent")
	}
	return nil
}
