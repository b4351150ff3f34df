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
	overGRPC, hangUp, err := callers.overGRPC()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp()) }()
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

// cryptography is what no issuance can do without: a request's signature verified, a certificate signed.
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
