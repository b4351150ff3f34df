package ca

import (
	"context"
	"crypto/x509/pkix"
	"errors"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// TestingOnlyRead is what is done to a request before anything of ours takes part: possession, names, subject, policy.
func TestingOnlyRead(p *profile.Profile, request Request) ([]pki.Identifier, error) {
	if err := checkRequest(request); err != nil {
		return nil, err
	}
	csr, err := provePossession(p, request.CSR)
	if err != nil {
		return nil, err
	}
	names, requested, err := namesOf(order{Request: request, profile: p}, csr)
	if err != nil {
		return nil, err
	}
	if _, err := subjectFor(p, requested, names); err != nil {
		return nil, err
	}
	if err := policy.CheckNames(p, names); err != nil {
		return nil, err
	}
	return names, policy.CheckKey(csr.PublicKey, nil)
}

// TestingOnlyTick is what Run does every third of a lease.
func (a *Authority) TestingOnlyTick(ctx context.Context) error {
	return errors.Join(a.ranges.renew(ctx), a.ranges.tick(ctx))
}

// TestingOnlyReconcile is what Run does beside that.
func (a *Authority) TestingOnlyReconcile(ctx context.Context) error { return a.reconcile(ctx) }

// TestingOnlyRefresh is what Run does every few seconds.
func (a *Authority) TestingOnlyRefresh(ctx context.Context) error { return a.refresh(ctx) }

// TestingOnlyCAsBelow is what the path lengths of a chain allow.
func TestingOnlyCAsBelow(chain [][]byte) (int, error) { return casBelow(chain) }

// TestingOnlyRuns joins sorted indices.
func TestingOnlyRuns(sorted []uint64) []Run { return runs(sorted) }

// TestingOnlyTake takes an index of this week, as Issue does when it has asked everything else.
func (a *Authority) TestingOnlyTake(ctx context.Context, issuer Issuer) error {
	key, err := a.issuers.open(context.WithoutCancel(ctx), issuer)
	if err != nil {
		return err
	}
	epoch, err := pki.EpochAt(a.config.Now().Unix())
	if err != nil {
		return err
	}
	_, err = a.ranges.take(ctx, key, epoch)
	return err
}

// TestingOnlyCAExtensions are the extensions that say what a CA may do.
func TestingOnlyCAExtensions(c *profile.CA) ([]pkix.Extension, error) { return caExtensions(c) }
