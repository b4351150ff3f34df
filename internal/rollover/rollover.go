// Package rollover replaces an issuer by a successor, over the API and step by step. Each look determines what exists
// and what is left to do, so a rollover that was interrupted anywhere can be continued. It asks nothing and prints
// nothing: cmd/signet does.
package rollover

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/pki"
)

const op = "roll issuer over"

// Spec says which issuer is replaced, and describes its successor. An empty field is as in the old issuer: the same
// name and label with the next number, the same kind of key, the same parent.
type Spec struct {
	Issuer       pki.IssuerID
	Label        string
	CommonName   string
	KeyAlgorithm string
	Parent       pki.IssuerID
	Lifetime     time.Duration // zero: the server's default for such a CA
	Overlap      time.Duration // of a root: how long the two certify each other; zero: the server's default
	CSR          string        // the file for the request, if the parent is off-line; empty: named after the label
}

// Rollover is the state of an issuer's replacement, as the server shows it.
type Rollover struct {
	Old, Successor client.Issuer // the successor is zero until it is created
	Created        client.IssuerSpec
	Steps          []Step
	InForce        uint64         // certificates of the old issuer, without Signet's own; a large number is an estimate
	Own            uint64         // certificates for Signet's own use, which Signet replaces by itself
	Bundle         *client.Bundle // of the successor; nil until it has a certificate
	// Why the old issuer, a root, signs nothing any more and is not cross-signed; empty: it is sound.
	Broken string

	spec   Spec
	now    time.Time
	api    *client.Client
	reason pki.Reason // for revoking what the successor signed for the old root, if it is broken
}

// Step is one step. A step that waits for another party is not done, and cannot be done here.
type Step struct {
	What  string `json:"step"`
	Done  bool   `json:"done"`
	Waits string `json:"waits_for,omitempty"`

	Question string                      `json:"-"` // asked for confirmation before the step; empty: none is needed
	Unless   string                      `json:"-"` // what the step waits for if it is not confirmed
	Do       func(context.Context) error `json:"-"`
}

// Next returns the first step that can be done now; nil if there is none.
func (r *Rollover) Next() *Step {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Waits != "" {
			return nil // the steps after it depend on it
		} else if !s.Done {
			return s
		}
	}
	return nil
}

// Waiting returns what a step waits for; empty if none waits.
func (r *Rollover) Waiting() string {
	for _, s := range r.Steps {
		if s.Waits != "" {
			return s.Waits
		}
	}
	return ""
}

// CSRFile returns the path for the successor's request, if its parent is off-line.
func (r *Rollover) CSRFile() string {
	if r.spec.CSR != "" {
		return r.spec.CSR
	}
	return r.Created.Label + ".csr"
}

// Look determines what exists, and from that what is to be done.
func Look(ctx context.Context, api *client.Client, spec Spec, now time.Time) (*Rollover, error) {
	issuers, err := api.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	old, err := api.Issuer(ctx, spec.Issuer)
	if err != nil {
		return nil, err
	}
	if len(old.Certificates) == 0 {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s has no certificate yet", old.Label).InField("issuer").
			WithHint("signet issuer import FILE")
	}
	if old.Root && !old.Online {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "the key of root %s is off-line", old.Label).InField("issuer").
			WithHint("hold its ceremonies: signet ceremony root, cross-sign; docs/OPERATIONS.md has them in order")
	}
	certificate, err := x509.ParseCertificate(old.Certificates[0])
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	r := &Rollover{Old: *old, spec: spec, now: now, api: api}
	if r.Created, err = r.describe(issuers, certificate); err != nil {
		return nil, err
	}
	if err := r.findSuccessor(ctx, issuers); err != nil {
		return nil, err
	}
	if r.Successor.ID.IsZero() && !r.Created.Offline { // it is created here, with the values of the old issuer
		if err := ca.CheckRepeatable(certificate); err != nil {
			return nil, err
		}
	}
	if err := r.addSteps(ctx, issuers); err != nil {
		return nil, err
	}
	if err := r.countInForce(ctx); err != nil {
		return nil, err
	}
	if r.made() && len(r.Successor.Certificates) > 0 {
		r.Bundle, err = api.IssuerBundle(ctx, r.Successor.ID, time.Time{})
	}
	return r, err
}

// findSuccessor finds the issuer with the successor's label, if there is one.
func (r *Rollover) findSuccessor(ctx context.Context, issuers []client.Issuer) error {
	i := slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.Label == r.Created.Label })
	if i < 0 {
		return nil
	}
	if pki.CommonNameOf(issuers[i].Subject) != r.Created.Subject.CommonName {
		return pki.Errorf(pki.KindConflict, op, "there is an issuer %s already, and its name is %s", issuers[i].Label, issuers[i].Subject).InField("--label").
			WithHint("if it is the successor, give its --common-name; otherwise choose another --label")
	}
	successor, err := r.api.Issuer(ctx, issuers[i].ID)
	if err != nil {
		return err
	}
	r.Successor = *successor
	return nil
}

// made reports whether the successor exists. One below an off-line CA exists once it has requested its certificate.
func (r *Rollover) made() bool {
	return !r.Successor.ID.IsZero() && (r.Successor.State != client.IssuerPending || r.Created.Offline)
}

// countInForce counts the valid certificates of the old issuer, as signet list does, and separately Signet's own. It
// does not count that of its OCSP responder, which is needed to the end.
func (r *Rollover) countInForce(ctx context.Context) error {
	count := func(f client.CertificateFilter) (uint64, error) {
		f.Issuer, f.Standing = r.Old.ID, client.StandingValid
		c, err := r.api.CountCertificates(ctx, f)
		if err != nil {
			return 0, err
		}
		return c.Count, nil
	}
	var err error
	if r.InForce, err = count(client.CertificateFilter{NotAccount: client.AccountSystem}); err != nil {
		return err
	}
	if r.Own, err = count(client.CertificateFilter{Account: client.AccountSystem}); err != nil {
		return err
	}
	responders, err := count(client.CertificateFilter{Account: client.AccountSystem, Profile: "ocsp-responder"})
	r.Own -= min(responders, r.Own) // large numbers are estimates
	return err
}

// addSteps adds every step, and whether it is done.
func (r *Rollover) addSteps(ctx context.Context, issuers []client.Issuer) error {
	r.Steps = append(r.Steps, r.create(issuers))
	if r.Old.Root {
		return r.addRootSteps(ctx)
	}
	if r.Created.Offline {
		r.Steps = append(r.Steps, r.bring())
	}
	stop, err := r.stop(ctx)
	r.Steps = append(r.Steps, stop)
	return err
}

// addRootSteps adds the cross-signing of the two roots, unless the old one is broken or may turn out to be.
func (r *Rollover) addRootSteps(ctx context.Context) error {
	hold, err := r.standing(ctx)
	if err != nil {
		return err
	}
	if hold != "" {
		r.Steps = slices.Insert(r.Steps, 0, Step{What: "settle whether " + r.Old.Label + ", which is on hold, is to be trusted", Waits: hold})
	}
	if r.Broken == "" {
		r.Steps = append(r.Steps, r.crossSign(r.Successor, r.Old, r.Created.Label, r.Old.Label), r.crossSign(r.Old, r.Successor, r.Old.Label, r.Created.Label))
		return nil
	}
	disown, err := r.disown(ctx)
	if disown != nil {
		r.Steps = append(r.Steps, *disown)
	}
	return err
}

// standing determines whether the old root is broken, so that nothing may depend on it: the server would not let it
// sign, and a cross-certificate from the successor would give the thief of its key the successor's trust. A root on
// hold may turn out either way, and the steps depend on it: hold says what has to be decided first.
func (r *Rollover) standing(ctx context.Context) (hold string, err error) {
	blocked, err := r.api.KeyIsBlocked(ctx, r.Old.KeyHash)
	if err != nil {
		return "", err
	}
	if blocked {
		r.Broken, r.reason = "its key is blocked: it was reported as compromised", pki.CACompromise
		return "", nil
	}
	for i, der := range r.Old.Certificates {
		check, err := r.api.CheckCertificate(ctx, der, time.Time{})
		if err != nil {
			return "", err
		}
		if i == 0 && check.Status == client.StatusOnHold {
			hold = fmt.Sprintf("an end of the hold on %s: release it (signet release), or revoke it (signet revoke)", r.Old.Label)
		}
		if check.Status != client.StatusRevoked || check.Revocation == nil {
			continue
		}
		// The same rule as the server's.
		if reason := check.Revocation.Reason; i == 0 || reason == pki.KeyCompromise || reason == pki.CACompromise {
			r.Broken, r.reason = fmt.Sprintf("it is revoked (%s)", reason), reason
			return "", nil
		}
	}
	return hold, nil
}
