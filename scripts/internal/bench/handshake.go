package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
)

// trackedConnections is how many live connections a revocation has to close.
const trackedConnections = 10_000

// shake measures full TLS 1.3 handshakes on loopback, bare and checked in the same run: client and server share the
// processors. Then the check alone, and how fast tracked connections are closed.
func shake(ctx context.Context, b *bench) (err error) {
	w := &workbench{}
	defer w.close()
	defer func() {
		if trouble := recover(); trouble != nil { // the test infrastructure knows only Fatal
			err = fmt.Errorf("%v", trouble)
		}
	}()
	p := handshaketest.New(w, "root -> listed noaia; root -> stapled nocdp noaia; root -> int -> deep noaia")
	bare, err := bareHandshakes(ctx, b, p)
	if err != nil {
		return err
	}
	if err := checkedHandshakes(ctx, b, p, bare); err != nil {
		return err
	}
	if err := checks(ctx, b, p); err != nil {
		return err
	}
	return closeTracked(ctx, b, w)
}

// workbench is the T of the infrastructure of tests.
type workbench struct{ cleanups []func() }

func (w *workbench) Helper()                           {}
func (w *workbench) Cleanup(f func())                  { w.cleanups = append(w.cleanups, f) }
func (w *workbench) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (w *workbench) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (w *workbench) close() {
	for i := range w.cleanups {
		w.cleanups[len(w.cleanups)-1-i]()
	}
}

// connect makes a full handshake and hangs up.
func connect(address string, config *tls.Config) error {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	return conn.NetConn().Close()
}

func bareHandshakes(ctx context.Context, b *bench, p *handshaketest.PKI) (*limit, error) {
	leaf := p.Cert("stapled")
	address := p.Listen(p.ServerConfig(leaf, leaf.OCSP(handshaketest.OCSP{Life: 24 * time.Hour})))
	config := p.ClientConfig(leaf)
	return b.limit(ctx, load{name: "handshake/bare-crypto-tls", callers: runtime.NumCPU(), do: func(context.Context, int, int) error {
		return connect(address, config)
	}})
}

func checkedHandshakes(ctx context.Context, b *bench, p *handshaketest.PKI, bare *limit) error {
	settings := p.Config()
	for _, c := range []struct {
		name, leaf string
		stapled    bool
		afresh     bool // a new Checker for every handshake: it has seen nothing
		share      float64
	}{
		{"handshake/warm-crl", "listed", false, false, 0.98},
		{"handshake/staple-seen", "stapled", true, false, 0.98},
		{"handshake/staple-afresh", "stapled", true, true, 0.92},
	} {
		leaf := p.Cert(c.leaf)
		var staple []byte
		if c.stapled {
			staple = leaf.OCSP(handshaketest.OCSP{Life: 24 * time.Hour})
		}
		address := p.Listen(p.ServerConfig(leaf, staple))
		wrap := func() (*tls.Config, error) {
			checker, err := handshake.New(settings)
			if err != nil {
				return nil, err
			}
			return checker.WrapClient(p.ClientConfig(leaf))
		}
		config, err := wrap()
		if err != nil {
			return err
		}
		if _, err := b.measure(ctx, load{name: c.name, target: c.share * bare.Value, limit: bare, callers: runtime.NumCPU(), do: func(context.Context, int, int) error {
			config := config
			if c.afresh {
				var err error
				if config, err = wrap(); err != nil {
					return err
				}
			}
			return connect(address, config)
		}}); err != nil {
			return err
		}
	}
	return nil
}

// checks measures the judgement of a chain alone: one certificate below the root by a staple, two by CRLs.
func checks(ctx context.Context, b *bench, p *handshaketest.PKI) error {
	checker := p.Checker(nil)
	for _, c := range []struct {
		name, leaf string
		staple     []byte
	}{
		{"check/staple/1-certificate", "stapled", p.Cert("stapled").OCSP(handshaketest.OCSP{Life: 24 * time.Hour})},
		{"check/crl/2-certificates", "deep", nil},
	} {
		chain := p.Cert(c.leaf).Chain()
		if _, err := b.measure(ctx, load{name: c.name, target: 50_000, do: func(ctx context.Context, _, _ int) error { // 20 us each
			_, err := checker.Check(ctx, chain, c.staple)
			return err
		}}); err != nil {
			return err
		}
	}
	return nil
}

// closeTracked opens connections over pipes, has their certificate revoked, and measures from there until every one is
// closed, the fetch of the new CRL included.
func closeTracked(ctx context.Context, b *bench, w *workbench) error {
	var runs []float64
	for range rounds {
		took, err := closeTrackedOnce(ctx, w)
		if err != nil {
			return err
		}
		runs = append(runs, milliseconds(took))
	}
	low, middle, high := min(runs[0], runs[1], runs[2]), runs[0]+runs[1]+runs[2], max(runs[0], runs[1], runs[2])
	b.add(result{Name: fmt.Sprintf("track/close/%d", trackedConnections), Unit: "ms", Value: middle - low - high, Spread: [2]float64{low, high}, Target: 2000})
	return nil
}

func closeTrackedOnce(ctx context.Context, w *workbench) (time.Duration, error) {
	p := handshaketest.New(w, "root -> leaf noaia")
	leaf, checker := p.Cert("leaf"), p.Checker(nil)
	serverConfig := p.ServerConfig(leaf, nil)
	clientConfig, err := checker.WrapClient(p.ClientConfig(leaf))
	if err != nil {
		return 0, err
	}
	var closed sync.WaitGroup
	for range trackedConnections {
		here, there := net.Pipe()
		server, client := tls.Server(there, serverConfig), tls.Client(here, clientConfig)
		closed.Go(func() { _, _ = server.Read(make([]byte, 1)) }) // makes the handshake, and ends with the connection
		if err := client.HandshakeContext(ctx); err != nil {
			return 0, err
		}
		checker.Track(client)
		closed.Go(func() { _, _ = client.Read(make([]byte, 1)) })
	}
	leaf.Revoke(1)
	begin := time.Now()
	checker.Recheck(ctx)
	closed.Wait()
	return time.Since(begin), nil
}
