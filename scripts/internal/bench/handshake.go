package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// trackedConnections is the number of live connections that a revocation has to close.
const trackedConnections = 10_000

// shake measures full TLS 1.3 handshakes on loopback, bare and checked in random order; client and server share the
// processors. Then it measures the check alone, a large CRL in memory, and how fast tracked connections are closed.
func shake(ctx context.Context, b *bench) error {
	p, err := handshaketest.Open("root -> listed noaia; root -> stapled nocdp noaia; root -> responder responder; root -> int -> deep noaia")
	if err != nil {
		return err
	}
	defer p.Close()
	for _, measure := range []func(context.Context, *bench, *handshaketest.PKI) error{stapledHandshakes, listedHandshakes, deepHandshakes, checks} {
		if err := measure(ctx, b, p); err != nil {
			return err
		}
	}
	if err := largeList(ctx, b); err != nil {
		return err
	}
	return closeTracked(ctx, b)
}

// visits is a load of full handshakes with a server of its own, each on a new connection. A nil wrap means bare
// crypto/tls.
type visits struct {
	name    string
	leaf    string
	staples [][]byte // sent in turn; nil: none
	wrap    func(config *tls.Config, n int) (*tls.Config, error)
}

func (v visits) load(p *handshaketest.PKI) load {
	leaf := p.Cert(v.leaf)
	config := p.ServerConfig(leaf, nil)
	if v.staples != nil {
		certificates := make([]tls.Certificate, len(v.staples))
		for i, staple := range v.staples {
			certificates[i] = leaf.TLS(staple)
		}
		var sent atomic.Uint64
		config.Certificates, config.GetCertificate = nil, func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &certificates[(sent.Add(1)-1)%uint64(len(certificates))], nil
		}
	}
	address, client := p.Listen(config), p.ClientConfig(leaf)
	return load{name: v.name, callers: runtime.NumCPU(), do: func(_ context.Context, _, n int) error {
		config := client
		if v.wrap != nil {
			var err error
			if config, err = v.wrap(client, n); err != nil {
				return err
			}
		}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		return conn.NetConn().Close()
	}}
}

// once wraps with one Checker for all handshakes, which remembers the staples that it has seen.
func once(p *handshaketest.PKI) func(*tls.Config, int) (*tls.Config, error) {
	checker := p.Checker(nil)
	var wrapped *tls.Config
	var wrap sync.Once
	return func(config *tls.Config, _ int) (_ *tls.Config, err error) {
		wrap.Do(func() { wrapped, err = checker.WrapClient(config) })
		return wrapped, err
	}
}

// afresh wraps with a new Checker as soon as the last has seen every staple of its server, so that none is seen twice.
func afresh(p *handshaketest.PKI, staples int) func(*tls.Config, int) (*tls.Config, error) {
	settings := p.Config()
	var mu sync.Mutex
	var wrapped *tls.Config
	seen := 0
	return func(config *tls.Config, _ int) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		if seen++; wrapped != nil && seen%staples != 0 {
			return wrapped, nil
		}
		checker, err := handshake.New(settings)
		if err != nil {
			return nil, err
		}
		wrapped, err = checker.WrapClient(config)
		return wrapped, err
	}
}

// oneSignature is the physical limit of checking a new staple: only the verification of one signature by the authority's
// kind of key.
func oneSignature(leaf *handshaketest.Cert) func(*tls.Config, int) (*tls.Config, error) {
	return func(config *tls.Config, _ int) (*tls.Config, error) {
		config = config.Clone()
		config.VerifyConnection = func(tls.ConnectionState) error { return leaf.CheckSignatureFrom(leaf.Issuer.Certificate) }
		return config, nil
	}
}

// stapleCount is the number of different staples that a server sends in turn; seenCount that where a client has seen all.
const stapleCount, seenCount = 1024, 8

// staplesFor makes current staples that differ by their signatures.
func staplesFor(leaf *handshaketest.Cert, spec handshaketest.OCSP) [][]byte {
	spec.Life = 24 * time.Hour
	staples := make([][]byte, stapleCount)
	for i := range staples {
		staples[i] = leaf.OCSP(spec)
	}
	return staples
}

// stapledHandshakes compares with bare crypto/tls that is sent the same staples and does not look at them.
func stapledHandshakes(ctx context.Context, b *bench, p *handshaketest.PKI) error {
	plain := staplesFor(p.Cert("stapled"), handshaketest.OCSP{})
	delegated := staplesFor(p.Cert("stapled"), handshaketest.OCSP{Signer: p.Cert("responder")})
	const leaf = "stapled"
	if err := b.compare(ctx, visits{name: "handshake/bare, staple sent", leaf: leaf, staples: plain}.load(p), []rival{
		{visits{name: "handshake/staple-seen", leaf: leaf, staples: plain[:seenCount], wrap: once(p)}.load(p), 0.98},
		{visits{name: "handshake/staple-afresh", leaf: leaf, staples: plain, wrap: afresh(p, stapleCount)}.load(p), 0.92},
		{visits{name: "handshake/bare, one signature more than a staple", leaf: leaf, staples: plain, wrap: oneSignature(p.Cert(leaf))}.load(p), 0},
	}); err != nil {
		return err
	}
	return b.compare(ctx, visits{name: "handshake/bare, delegate's staple sent", leaf: leaf, staples: delegated}.load(p), []rival{
		{visits{name: "handshake/delegate's-staple-seen", leaf: leaf, staples: delegated[:seenCount], wrap: once(p)}.load(p), 0.98},
		{visits{name: "handshake/delegate's-staple-afresh", leaf: leaf, staples: delegated, wrap: afresh(p, stapleCount)}.load(p), 0.92},
	})
}

func listedHandshakes(ctx context.Context, b *bench, p *handshaketest.PKI) error {
	return b.compare(ctx, visits{name: "handshake/bare, no staple", leaf: "listed"}.load(p), []rival{
		{visits{name: "handshake/warm-crl", leaf: "listed", wrap: once(p)}.load(p), 0.98},
	})
}

// deepHandshakes compares handshakes with a usual chain: leaf, intermediate, root. The intermediate's CRL is warm in both.
func deepHandshakes(ctx context.Context, b *bench, p *handshaketest.PKI) error {
	staples := staplesFor(p.Cert("deep"), handshaketest.OCSP{})
	return b.compare(ctx, visits{name: "handshake/bare, intermediate, staple sent", leaf: "deep", staples: staples}.load(p), []rival{
		{visits{name: "handshake/intermediate, staple-seen", leaf: "deep", staples: staples[:seenCount], wrap: once(p)}.load(p), 0.98},
		{visits{name: "handshake/intermediate, staple-afresh", leaf: "deep", staples: staples, wrap: afresh(p, stapleCount)}.load(p), 0.92},
	})
}

// checks measures the check of a chain alone: one certificate below the root by a staple, two by CRLs.
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

// entries is the number of revocations on the large list.
const entries = 1_000_000

// largeList measures the memory of a large CRL, and a look-up in it.
func largeList(ctx context.Context, b *bench) error {
	der, err := signedList()
	if err != nil {
		return err
	}
	before := heapInUse()
	list, err := crl.Parse(der)
	if err != nil {
		return err
	}
	resident := (heapInUse() - before) / 1e6
	b.add(result{Name: fmt.Sprintf("crl/resident/%d", entries), Unit: "MB", Value: resident, Spread: [2]float64{resident, resident}, Target: 50, Less: true})
	runtime.KeepAlive(der)
	// A clock reading costs more than a look-up.
	const batch = 1000
	_, err = b.measure(ctx, load{name: fmt.Sprintf("crl/1000-look-ups/%d", entries), target: 1000, do: func(_ context.Context, _, n int) error { // 1 us each
		for i := range batch {
			serial := serialOf((n*batch + i) * 7919 % (2 * entries)) // every other one is absent
			if _, listed := list.Lookup(serial[:], list.Issuer); listed != (serial[0] == 0x41) {
				return errors.New("a look-up is wrong")
			}
		}
		return nil
	}})
	return err
}

// serialOf draws a serial number: those of an odd i are on no list.
func serialOf(i int) (serial pki.Serial) {
	serial[0] = 0x41 + byte(i&1)
	binary.BigEndian.PutUint64(serial[1:], uint64(i/2)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(serial[12:], uint64(i/2))
	return serial
}

// signedList makes a CRL whose entries have a date, and every other one a reason.
func signedList() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issuer, err := asn1.Marshal(pkix.Name{CommonName: "Benchmark CA"}.ToRDNSequence())
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	var arena crl.Arena
	for i := range entries {
		arena.Add(uint64(i+1), crl.Revocation{Serial: serialOf(2 * i), At: now, Reason: pki.Reason(i % 2)})
	}
	all, _ := arena.At(entries)
	template := crl.Template{Issuer: issuer, KeyID: []byte("benchmark"), Number: 1, ThisUpdate: now, NextUpdate: now.Add(72 * time.Hour)}
	document, _, err := template.Sign(all, key)
	return document.Bytes(), err
}

// heapInUse returns the size of all live objects on the heap, in octets.
func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// closeTracked opens connections over pipes, has their certificate revoked, and measures the time from there until
// every one is closed, including the fetch of the new CRL.
func closeTracked(ctx context.Context, b *bench) error {
	var runs []float64
	for range rounds {
		took, err := closeTrackedOnce(ctx)
		if err != nil {
			return err
		}
		runs = append(runs, milliseconds(took))
	}
	low, middle, high := min(runs[0], runs[1], runs[2]), runs[0]+runs[1]+runs[2], max(runs[0], runs[1], runs[2])
	b.add(result{Name: fmt.Sprintf("track/close/%d", trackedConnections), Unit: "ms", Value: middle - low - high, Spread: [2]float64{low, high}, Target: 2000, Less: true})
	return nil
}

func closeTrackedOnce(ctx context.Context) (time.Duration, error) {
	p, err := handshaketest.Open("root -> leaf noaia")
	if err != nil {
		return 0, err
	}
	defer p.Close()
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
		if _, err := checker.Track(client); err != nil {
			return 0, err
		}
		closed.Go(func() { _, _ = client.Read(make([]byte, 1)) })
	}
	leaf.Revoke(1)
	begin := time.Now()
	checker.Recheck(ctx)
	closed.Wait()
	return time.Since(begin), nil
}
