package approval

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Approve approves a pending request and has it issued. The grant must allow approving for its profile, and its holder
// must be neither the requester nor of the requester's account (four eyes). Approving an approved request changes
// nothing. If the answer is approved but not issued, an instance will issue it later: see Run. After an error nothing
// was approved, unless the error is of KindUnavailable: then the database's answer may have been lost, and approving
// again tells.
func (d *Desk) Approve(ctx context.Context, grant auth.Grant, id ca.ApprovalID, comment string) (Answer, error) {
	const op = "approve request"
	a, err := d.decidable(ctx, op, grant, id, comment)
	if err != nil {
		return Answer{}, err
	}
	if a.State == Approved || a.State == Issued || a.State == Refused { // approved before, by any approver
		return d.Get(ctx, grant, id)
	}
	if a.Unread != nil {
		return Answer{}, a.Unread
	}
	p := grant.Principal()
	if err := d.entitled(ctx, op, &a); err != nil {
		return Answer{}, d.audited(ctx, p, &a, err)
	}
	event := eventOf(p, "request.approve", id, d.config.Now())
	event.Detail = map[string]string{"profile": a.Request.Profile, "account": a.Requester.Account, "requester": a.Requester.ID, "comment": comment}
	a, err = d.config.Store.Decide(ctx, Decision{
		ID: id, From: Pending, To: Approved, By: p.ID, Comment: comment,
		Expires: d.config.Expires, Claim: d.config.Claim, Event: event,
	})
	if err != nil {
		return Answer{}, d.lost(ctx, op, id, err)
	}
	// From here on the request is approved. If this process stops, another issues it when the claim has passed.
	return d.settle(ctx, a), nil
}

// Deny ends a request that is pending, or approved and not issued, such as one that waits for a hold to end. If the
// certificate is being issued at that moment, the first to be recorded wins. The grant is as for Approve. A reason is
// required; the requester can read it.
func (d *Desk) Deny(ctx context.Context, grant auth.Grant, id ca.ApprovalID, reason string) (Application, error) {
	const op = "deny request"
	if reason == "" {
		return Application{}, pki.Errorf(pki.KindInvalid, op, "a reason is required").InField("reason").WithHint("say why: the requester reads it")
	}
	a, err := d.decidable(ctx, op, grant, id, reason)
	if err != nil {
		return Application{}, err
	}
	from := Pending
	if a.State == Approved {
		from = Approved
	}
	p := grant.Principal()
	event := eventOf(p, "request.deny", id, d.config.Now())
	event.Detail = map[string]string{"profile": a.Request.Profile, "account": a.Requester.Account, "requester": a.Requester.ID, "reason": reason}
	a, err = d.config.Store.Decide(ctx, Decision{ID: id, From: from, To: Denied, By: p.ID, Comment: reason, Event: event})
	if err != nil {
		return Application{}, d.lost(ctx, op, id, err)
	}
	return a, nil
}

// decidable finds an application and checks that the holder of the grant may decide it. A refusal is written to the
// audit log.
func (d *Desk) decidable(ctx context.Context, op string, grant auth.Grant, id ca.ApprovalID, comment string) (Application, error) {
	if len(comment) > maxComment || !utf8.ValidString(comment) {
		return Application{}, pki.Errorf(pki.KindInvalid, op, "want at most %d octets of UTF-8", maxComment).InField("reason").WithHint("shorten it")
	}
	a, err := d.find(ctx, op, grant, id)
	if err != nil {
		return Application{}, err
	}
	p := grant.Principal()
	switch {
	case !grant.Allows(auth.ActionApprove, a.Request.Profile):
		err = pki.Errorf(pki.KindDenied, op, "%s may not approve for profile %s", p.ID, a.Request.Profile).InField("request").
			WithHint("ask an administrator, or someone with the role approver")
	case p.ID == a.Requester.ID || p.Account == a.Requester.Account:
		err = pki.Errorf(pki.KindDenied, op, "%s asked for it, from account %s: somebody else must decide", a.Requester.ID, a.Requester.Account).
			InField("request").WithHint("decide it with a credential of another account")
	case a.State == Denied || a.State == Expired:
		return a, pki.Errorf(pki.KindFailedPrecondition, op, "the request is %s", a.State).InField("request").WithHint("its requester can file a new one")
	}
	if err == nil {
		return a, nil
	}
	return Application{}, d.audited(ctx, p, &a, err)
}

// audited writes the refusal of a decision to the audit log and returns the refusal, or the error of writing it.
func (d *Desk) audited(ctx context.Context, p auth.Principal, a *Application, refusal error) error {
	event := eventOf(p, "request.decide", a.ID, d.config.Now())
	event.Outcome, event.Detail = audit.Refused, map[string]string{"profile": a.Request.Profile, "error": refusal.Error()}
	if err := d.config.Audit.AppendAudit(context.WithoutCancel(ctx), []audit.Event{event}); err != nil {
		return err
	}
	return refusal
}

// entitled refuses an application whose requester may no longer ask, with KindFailedPrecondition in field requester.
// The reason is one of these:
//   - The requester proved neither a credential nor a certificate.
//   - The credential that filed it was disabled since, or does not exist.
//   - The certificate that filed it, of a client or one to be renewed, was revoked or put on hold since, or its issuer
//     no longer stands. Its holder only proved possession of the key, and that key or the issuer's may have been
//     stolen by then. A hold can end: then the error is ca.ErrOnHold.
//
// A credential or certificate that has merely expired since is accepted, because it was valid when the request was
// filed.
func (d *Desk) entitled(ctx context.Context, op string, a *Application) error {
	if a.Requester.Certificate != "" {
		if err := d.certificateCounts(ctx, op, a); err != nil {
			return err
		}
	}
	name, ok := a.Requester.Credential()
	if !ok {
		if a.Requester.Certificate == "" && !a.Requester.IsSystem() { // the requester proved nothing
			return mayNotAsk(op, "it was filed by %s, who proved neither a credential nor a certificate", a.Requester.ID)
		}
		return nil
	}
	credential, err := d.config.Credentials.Credential(ctx, name)
	switch {
	case pki.KindOf(err) == pki.KindNotFound && err != nil:
		return mayNotAsk(op, "it was filed with credential %s, which does not exist", name)
	case err != nil:
		return err
	case !credential.DisabledAt.IsZero():
		return mayNotAsk(op, "it was filed with credential %s, which was disabled at %s", name, credential.DisabledAt.UTC().Format(time.RFC3339))
	}
	return nil
}

// certificateCounts is entitled for the certificate that filed the application.
func (d *Desk) certificateCounts(ctx context.Context, op string, a *Application) error {
	issuer, serial, err := parseCertificateID(a.Requester.Certificate)
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "request %s was proved by %q: %w", a.ID, a.Requester.Certificate, err)
	}
	// A thief of the issuer's key can make another certificate with the same serial, so a serial in good standing
	// proves nothing.
	switch err := d.config.Authority.StandingByNow(ctx, issuer); {
	case ca.Fallen(err):
		return mayNotAsk(op, "it was filed with certificate %s, whose issuer does not stand: %w", serial, err)
	case err != nil:
		return err
	}
	read, err := auth.System("approval").Authorize(auth.ActionRead, "")
	if err != nil {
		return err
	}
	filter := inventory.Filter{Issuer: issuer, Serial: serial, Status: inventory.StatusRevoked} // by any instance, up to now
	revoked, err := d.config.Authority.Count(ctx, read, filter)
	if err != nil || revoked.N == 0 {
		return err
	}
	held, err := d.config.Authority.OnHold(ctx, issuer, serial)
	switch {
	case err != nil:
		return err
	case held:
		return mayNotAsk(op, "it was filed with certificate %s, which is %w", serial, ca.ErrOnHold)
	}
	return mayNotAsk(op, "it was filed with certificate %s, which is revoked by now", serial)
}

func mayNotAsk(op, format string, args ...any) error {
	e := pki.Errorf(pki.KindFailedPrecondition, op, format, args...).InField("requester")
	if errors.Is(e, ca.ErrOnHold) {
		return e.WithHint("release the certificate: the request can then be approved and, if it already was, is issued automatically; or deny it")
	}
	return e.WithHint("deny it: its requester may no longer ask, and can file a new request once that is allowed again")
}

// parseCertificateID reads "issuer/serial".
func parseCertificateID(text string) (pki.IssuerID, pki.Serial, error) {
	before, after, _ := strings.Cut(text, "/")
	issuer, err := pki.ParseIssuerID(before)
	if err != nil {
		return pki.IssuerID{}, pki.Serial{}, err
	}
	serial, err := pki.ParseSerial(after)
	return issuer, serial, err
}

// lost returns an error that names the current state if the decision failed because another came first; else cause.
func (d *Desk) lost(ctx context.Context, op string, id ca.ApprovalID, cause error) error {
	if pki.KindOf(cause) != pki.KindFailedPrecondition {
		return cause
	}
	a, err := d.config.Store.Application(ctx, id)
	if err != nil {
		return cause
	}
	return pki.Errorf(pki.KindFailedPrecondition, op, "the request is %s by now", a.State).InField("request").WithHint("signet requests show %s", id)
}

// settle issues an approved application that this instance has claimed. An application that breaks a rule becomes
// refused. One that cannot be issued for another reason stays approved.
func (d *Desk) settle(ctx context.Context, a Application) Answer {
	issued, delay := d.issue(ctx, &a)
	if againstRule(delay) {
		return d.refuse(ctx, a, delay)
	}
	if delay != nil {
		delay = errors.Join(delay, d.config.Store.Postpone(ctx, &a, requesterText(delay), d.pause(&a, delay)))
	}
	// Another instance may have issued or denied it meanwhile: the stored state decides.
	current, err := d.config.Store.Application(ctx, a.ID)
	if err != nil {
		return Answer{Issued: issued, Filed: &a, Delay: delay}
	}
	if current.State != Approved {
		delay = nil
	}
	if issued == nil && current.State == Issued {
		if issued, err = d.certificate(ctx, &current); err != nil {
			delay = err // the application names the certificate all the same
		}
	}
	return Answer{Issued: issued, Filed: &current, Delay: delay}
}

// againstRule reports whether err is permanent. A key or issuer that this instance lacks is not: another instance has
// it.
func againstRule(err error) bool {
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case pki.KindInvalid, pki.KindRefused, pki.KindDenied:
		return true
	case pki.KindNotFound:
		return e.Field == "profile"
	case pki.KindFailedPrecondition: // of entitled
		return e.Field == "requester" && !errors.Is(err, ca.ErrOnHold)
	}
	return false
}

// pause returns the time until the next attempt. If a person has to act first, it is twice the pause before, from
// Config.Claim to Config.Pause, while the reason stays the same. Otherwise it is Config.Claim, because a service that
// does not answer may answer soon, and another instance may have what this one lacks.
func (d *Desk) pause(a *Application, delay error) time.Duration {
	if pki.KindOf(delay) != pki.KindFailedPrecondition || errors.Is(delay, ca.ErrKeyElsewhere) || requesterText(delay) != a.Delay {
		return d.config.Claim
	}
	return min(max(2*a.Pause, d.config.Claim), d.config.Pause)
}

// requesterText returns the part of err that the requester may read. The details of internal errors and of services
// that do not answer are for operators only.
func requesterText(err error) string {
	if kind := pki.KindOf(err); kind == pki.KindInternal || kind == pki.KindUnavailable {
		return "something in the server broke or does not answer: its log and the audit log say what"
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxComment)], "") // databases refuse half a character
}

func (d *Desk) issue(ctx context.Context, a *Application) (*ca.Issued, error) {
	grant, err := a.grant()
	if err != nil {
		return nil, err
	}
	if err := d.entitled(ctx, "issue certificate", a); err != nil {
		return nil, err
	}
	issued, err := d.config.Authority.IssueApproved(ctx, grant, ca.Approved{ID: a.ID, Request: a.Request, Issuer: a.Trial.Issuer, Known: d.failures.of(a.ID)})
	d.failures.note(a.ID, err, d.config.Now())
	return issued, err
}

func (d *Desk) refuse(ctx context.Context, a Application, cause error) Answer {
	text := requesterText(cause)
	event := eventOf(auth.System("approval"), "request.refuse", a.ID, d.config.Now())
	event.Detail = map[string]string{"profile": a.Request.Profile, "account": a.Requester.Account, "error": text}
	refused, err := d.config.Store.Decide(ctx, Decision{ID: a.ID, From: Approved, To: Refused, By: a.DecidedBy, Comment: text, Event: event})
	if err != nil {
		return Answer{Filed: &a, Delay: err} // it stays approved, and the next attempt is refused too
	}
	return Answer{Filed: &refused}
}

// Run calls IssueClaimed every five seconds and Sweep every hour until ctx ends. So an approved application is issued
// even if an instance stopped before it was, or a service did not answer. Run calls report, if not nil, with every
// error, and tries again in the next round.
func (d *Desk) Run(ctx context.Context, report func(error)) {
	if report == nil {
		report = func(error) {}
	}
	claims, sweeps := time.NewTicker(5*time.Second), time.NewTicker(time.Hour)
	defer claims.Stop()
	defer sweeps.Stop()
	for {
		round := d.IssueClaimed
		select {
		case <-ctx.Done():
			return
		case <-claims.C:
		case <-sweeps.C:
			round = d.Sweep
		}
		if err := round(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
	}
}

// IssueClaimed issues the approved applications that no other instance has claimed.
func (d *Desk) IssueClaimed(ctx context.Context) error {
	const batch = 16
	var failed []error
	for {
		claimed, err := d.config.Store.Claim(ctx, d.config.Claim, batch)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, a := range claimed {
			failed = append(failed, d.settle(ctx, a).Delay)
		}
		if len(claimed) < batch {
			return errors.Join(failed...)
		}
	}
}

// Sweep removes applications that were decided, or expired, longer ago than Config.Keep. The audit log keeps the
// decisions.
func (d *Desk) Sweep(ctx context.Context) error {
	const batch = 1000
	d.failures.forget(d.config.Now().Add(-d.config.Expires))
	for {
		n, err := d.config.Archive.Forget(ctx, d.config.Keep, batch)
		if err != nil || n < batch {
			return err
		}
	}
}
