package rollover

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/api/client"
)

// create is the step that creates the successor. If a call breaks off, the server completes it.
func (r *Rollover) create(issuers []client.Issuer) Step {
	n := r.Created
	if len(r.Successor.Certificates) > 0 { // what was made may differ from what would be made
		n.Algorithm = r.Successor.KeyType
		if certificate, err := x509.ParseCertificate(r.Successor.Certificates[0]); err == nil && !r.Successor.Root {
			parent, known := signerOf(issuers, certificate)
			n.Parent, n.Offline = parent.ID, !known
		}
	}
	return Step{
		What: fmt.Sprintf("make %s, %q, with a new key (%s)%s", n.Label, n.Subject.CommonName, n.Algorithm, under(issuers, n)),
		Done: r.made(),
		Do: func(ctx context.Context) error {
			_, err := r.api.CreateIssuer(ctx, r.Created)
			return err
		},
	}
}

func under(issuers []client.Issuer, n client.IssuerSpec) string {
	for _, i := range issuers {
		if i.ID == n.Parent {
			return ", below " + i.Label
		}
	}
	if n.Offline {
		return ", below an authority that is off-line"
	}
	return ", a root"
}

// bring is the step that brings a certificate from an off-line CA, carried by its keepers.
func (r *Rollover) bring() Step {
	step := Step{What: "bring the certificate of " + r.Created.Label}
	if r.made() && r.Successor.State == client.IssuerPending {
		// It asks for the name constraints and the path length itself.
		ceremony := "signet ceremony sign --csr " + r.CSRFile()
		if r.spec.Lifetime != 0 {
			ceremony += " --lifetime " + r.spec.Lifetime.String()
		}
		step.Waits = "its certificate: have " + r.CSRFile() + " signed where its parent is (" + ceremony + "), and bring it with signet issuer import FILE"
	}
	step.Done = r.made() && step.Waits == ""
	return step
}

// crossSign is the step in which parent certifies subject. Until the successor exists, one of them is the zero issuer.
func (r *Rollover) crossSign(subject, parent client.Issuer, subjectLabel, parentLabel string) Step {
	step := Step{What: fmt.Sprintf("have %s sign %s", parentLabel, subjectLabel)}
	for _, der := range subject.Certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, signed := signerOf([]client.Issuer{parent}, certificate); signed && r.now.Before(certificate.NotAfter) {
			step.Done = true
			step.What += ", until " + certificate.NotAfter.UTC().Format(time.DateOnly)
		}
	}
	step.Do = func(ctx context.Context) error {
		_, err := r.api.CrossSignIssuer(ctx, subject.ID, parent.ID, r.spec.Overlap)
		return err
	}
	return step
}

// disown is the step in which the successor revokes what it signed for a root that turned out to be broken; nil if it
// signed nothing.
func (r *Rollover) disown(ctx context.Context) (*Step, error) {
	var step *Step
	for _, der := range r.Old.Certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, signed := signerOf([]client.Issuer{r.Successor}, certificate); !signed {
			continue
		}
		if step == nil {
			step = &Step{What: fmt.Sprintf("revoke what %s signed for %s", r.Created.Label, r.Old.Label), Done: true}
		}
		check, err := r.api.CheckCertificate(ctx, der, time.Time{})
		if err != nil {
			return nil, err
		}
		// One on hold counts too: releasing it would make clients trust the old root again.
		if check.Status == client.StatusGood || check.Status == client.StatusOnHold {
			step.Done = false
			step.Do = func(ctx context.Context) error {
				_, err := r.api.Revoke(ctx, client.RevokeRequest{Certificate: der, Reason: r.reason})
				return err
			}
		}
	}
	return step, nil
}

// stop is the step after which the old issuer issues nothing.
func (r *Rollover) stop(ctx context.Context) (Step, error) {
	step := Step{What: fmt.Sprintf("stop %s from issuing (disabled); its lists and OCSP go on", r.Old.Label), Done: r.Old.State != client.IssuerActive}
	step.Do = func(ctx context.Context) error {
		_, err := r.api.SetIssuerState(ctx, r.Old.ID, client.IssuerDisabled)
		return err
	}
	if step.Done {
		return step, nil
	}
	instances, err := r.api.ProfileInstances(ctx)
	if err != nil {
		return step, err
	}
	// An instance without the key would refuse requests that name no issuer, and no other instance knows.
	if n := len(instances); n > 1 {
		step.What += fmt.Sprintf(". First each of the %d instances needs the key of %s: /readyz of one that lacks it warns", n, r.Created.Label)
		step.Question = fmt.Sprintf("Has each of the %d instances the key of %s?", n, r.Created.Label)
		step.Unless = fmt.Sprintf("the key of %s on each of the %d instances: copy keys/%[1]s.key from the one that made it to the others, and use --keys-are-there",
			r.Created.Label, n)
	}
	profiles, err := r.api.Profiles(ctx)
	if err != nil || !r.made() {
		return step, err
	}
	var bound []string
	for _, p := range profiles {
		if p.Issuer == r.Old.Label {
			bound = append(bound, p.Name)
		}
	}
	if len(bound) > 0 {
		step.Waits = fmt.Sprintf("profile %s, which names it: write issuer: %s there and reload the profiles (signet profile reload)",
			strings.Join(bound, ", "), r.Created.Label)
	}
	return step, nil
}
