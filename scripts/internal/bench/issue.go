package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// issue measures issuance with everything on: policy, lint, recording, audit, CRL and OCSP. CSRs are made beforehand.
// The callers are in this process, on the same processors.
func issue(ctx context.Context, b *bench) (err error) {
	csrs, err := requests(256)
	if err != nil {
		return err
	}
	if _, err := cryptography(ctx, b, csrs[0]); err != nil {
		return err
	}
	inserts, err := durableInserts(16)(ctx, b)
	if err != nil {
		return err
	}
	for _, store := range []struct {
		name       string
		many, rest float64
		limit      *limit
	}{{"postgres", 5000, 3500, inserts}, {"sqlite", 4000, 0, nil}} {
		if err := issueOn(ctx, b, store.name, csrs, store.many, store.rest, store.limit); err != nil {
			return fmt.Errorf("%s: %w", store.name, err)
		}
	}
	return nil
}

func issueOn(ctx context.Context, b *bench, name string, csrs [][]byte, target, restTarget float64, limit *limit) (err error) {
	s, err := b.newSite(ctx, "issue-"+name, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	callers, err := s.issuingCallers(csrs)
	if err != nil {
		return err
	}
	overGRPC, hangUp, err := callers.overGRPC(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp()) }()
	if b.certificates > 0 && name == "postgres" {
		return b.memory(ctx, s, overGRPC)
	}
	rest := callers.overREST()
	for _, l := range []load{
		{name: "issue/grpc/" + name + "/c1", callers: 1, do: overGRPC},
		{name: "issue/grpc/" + name + "/c16", callers: 16, do: overGRPC, target: target, limit: limit},
		{name: "issue/grpc/" + name + "/c64", callers: 64, do: overGRPC, target: target, limit: limit},
		{name: "issue/rest/" + name + "/c16", callers: 16, do: rest, target: restTarget, limit: limit},
	} {
		l.pid, l.ops = s.pid(), s.addresses.Ops
		if _, err := b.measure(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// memory issues many certificates in one go and reports the server's memory, which must not grow after a tenth of them.
func (b *bench) memory(ctx context.Context, s *site, issue func(context.Context, int, int) error) error {
	const callers, tenths = 64, 10
	r := result{Name: fmt.Sprintf("memory/grpc/postgres/%d", b.certificates), Unit: "MB", Target: 250, Less: true}
	var next atomic.Int64
	for tenth := range tenths {
		until := int64(b.certificates) * int64(tenth+1) / tenths
		begin, from := time.Now(), next.Load()
		failures := make(chan error, callers)
		for range callers {
			go func() {
				var err error
				for n := next.Add(1); n <= until && err == nil; n = next.Add(1) {
					err = issue(ctx, 0, int(n))
				}
				failures <- err
			}()
		}
		for range callers {
			if err := <-failures; err != nil {
				return err
			}
		}
		next.Store(until)
		rss := rssOf(s.pid())
		fmt.Printf("  %8d issued: %.0f MB, %.0f/s\n", until, rss, float64(until-from)/time.Since(begin).Seconds())
		if tenth == 0 {
			r.Spread = [2]float64{rss, rss}
		}
		r.Spread = [2]float64{min(r.Spread[0], rss), max(r.Spread[1], rss)}
		r.Value = rss
	}
	b.add(r)
	return nil
}

// cryptography is the part that every issuance needs: it verifies the signature of a request and signs a certificate.
func cryptography(ctx context.Context, b *bench, csr []byte) (*limit, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return b.limit(ctx, load{name: "limit/verify-csr-and-sign", callers: runtime.NumCPU(), do: func(context.Context, int, int) error {
		parsed, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return err
		}
		if err := parsed.CheckSignature(); err != nil {
			return err
		}
		digest := sha256.Sum256(csr)
		_, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	}})
}
