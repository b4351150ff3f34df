package revocation

import (
	"context"
	"time"

	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// MergeCRL records on the ledger what a CRL that the issuer signed elsewhere lists and the ledger lacks: serials that are
// not revoked here, or are on hold, or get the reason keyCompromise. A revocation that is here already stays as it is;
// a new one has the date of the list. The grant is for auth.ActionManage.
//
// Each group of 1,000 is one transaction. An error leaves the groups before it, and a repetition goes on after them.
// MergeCRL returns the sequence that the ledger then reaches, applied by this instance's Universe, or 0 if there was
// nothing to learn. Errors: KindDenied, KindInvalid (reason), KindNotFound (issuer), KindUnavailable (it may have
// happened: repeat).
func (l *Ledger) MergeCRL(ctx context.Context, grant auth.Grant, revoked []ListedRevocation) (uint64, error) {
	return l.enter(ctx, grant, revoked, false)
}

// ListedRevocation is an entry of a CRL that an issuer signed elsewhere.
type ListedRevocation struct {
	Request
	RevokedAt time.Time // zero, or later than now: now
}

// AdoptCRL is MergeCRL for the last CRL of an issuer whose CRLs are made here from now on: it keeps holds as holds.
func (l *Ledger) AdoptCRL(ctx context.Context, grant auth.Grant, list []ListedRevocation) (uint64, error) {
	return l.enter(ctx, grant, list, true)
}

// enter records on the ledger what is new, with or without the holds.
func (l *Ledger) enter(ctx context.Context, grant auth.Grant, said []ListedRevocation, holds bool) (uint64, error) {
	if !grant.Allows(auth.ActionManage, "") {
		return 0, pki.Errorf(pki.KindDenied, opChange, "importing serials takes an administrator")
	}
	if err := l.mayWrite(opChange); err != nil {
		return 0, err
	}
	var news []*pending
	asked := map[Key]bool{}
	for _, request := range said {
		claim, _, err := l.config.Universe.claim(ctx, request.Key)
		if err != nil {
			return 0, err
		}
		p := &pending{claim: claim, grant: grant, change: change{kind: KindRevoke, reason: request.Reason, at: request.RevokedAt, invalidityAt: request.InvalidityAt, foreign: true}}
		if holds && request.Reason == pki.CertificateHold {
			p.change.kind = KindHold
		}
		// The rules for public issuers restrict what may be requested, not what an issuer may have signed.
		if err := allowed(p.change, false); err != nil {
			return 0, err
		}
		if known, _, ok := l.config.Universe.lookUp(request.Issuer, request.Serial); !asked[request.Key] && (!ok || p.news(known.Kind, known.Reason)) {
			asked[request.Key] = true
			news = append(news, p)
		}
	}
	var last uint64
	for len(news) > 0 {
		group := news[:min(groupSize, len(news))]
		news = news[len(group):]
		err := unlessStale(func() error {
			end, err := l.learn(ctx, group)
			last = max(last, end)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return last, l.config.Universe.Await(ctx, last)
}

// news reports whether a revocation says more than the last entry of its certificate.
func (p *pending) news(last Kind, reason pki.Reason) bool {
	switch stateOf(Entry{Kind: last}) {
	case void:
		return false
	case held:
		return p.change.kind == KindRevoke
	case revoked:
		return p.change.reason == pki.KeyCompromise && reason != pki.KeyCompromise
	}
	return true
}

// learn appends the new entries of a group, in one transaction, and returns the last sequence.
func (l *Ledger) learn(ctx context.Context, group []*pending) (uint64, error) {
	claims := make([]Claim, len(group))
	for i, p := range group {
		claims[i] = p.claim
	}
	read := l.config.Universe.Seq()
	facts, err := l.config.Store.CertificateFacts(ctx, claims)
	if err != nil {
		return 0, err
	}
	now := l.config.Now()
	var entries []NewEntry
	var events []audit.Event
	var last uint64
	for i, p := range group {
		was := facts[i].Last
		if !p.news(was.Kind, was.Reason) {
			last = max(last, was.Seq)
			continue
		}
		wanted := p.change
		if stateOf(was) == revoked {
			wanted.kind = KindReasonChange
		}
		entry, _, err := decide(wanted, circumstances{last: was, now: now, notAfter: now}) // when it ends is not known, and a hold may be of what has not
		if err != nil {
			return 0, err
		}
		if at := wanted.at; !at.IsZero() && at.Before(entry.RevokedAt) && entry.Kind != KindReasonChange {
			entry.RevokedAt = at.UTC().Truncate(time.Second)
		}
		entry = p.place(entry, facts[i].Recorded)
		entries = append(entries, NewEntry{entry, was.Seq})
		events = append(events, eventOf(p, entry, now))
	}
	if len(entries) == 0 {
		return last, nil
	}
	return l.append(ctx, read, entries, events)
}

// place adds to an entry the certificate that it is about and the actor.
func (p *pending) place(entry Entry, recorded bool) Entry {
	entry.Issuer, entry.Serial, entry.Actor, entry.Foreign = p.claim.Issuer, p.claim.Serial, p.grant.Principal().ID, !recorded
	if recorded {
		entry.Position = p.claim.Position
	}
	return entry
}
