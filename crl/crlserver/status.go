package crlserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signet.example/signet/pki"
)

// ListStatus is the status of one list.
type ListStatus struct {
	Head    Head  // from Missing: only its List is set
	Behind  bool  // ledger entries that concern it are not on it yet
	Ending  bool  // no list will follow it: its week has passed, or its issuer is over
	Failure error // of the last attempt to publish its series; nil if that succeeded
}

// Lists reports every list that is served, in order of issuer, week and block.
func (p *Publisher) Lists() []ListStatus {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now := p.config.Now()
	var all []ListStatus
	for _, b := range p.issuers {
		for list, served := range b.lists {
			status := ListStatus{Head: served.head, Behind: b.touched(list) > served.head.Seq, Ending: b.issuer.Over || b.ending(list.Series, now)}
			if series := b.series[list.Series]; series != nil && !b.issuer.Over {
				status.Failure = series.failure
			}
			all = append(all, status)
		}
	}
	slices.SortFunc(all, func(a, b ListStatus) int { return a.Head.List.compare(b.Head.List) })
	return all
}

// Missing returns the lists that should be served and were never published. It leaves out those that may never come:
// lists of a retired issuer whose key this instance lacks.
func (p *Publisher) Missing() []ListStatus {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now := p.config.Now()
	var all []ListStatus
	for _, b := range p.issuers {
		if !b.online() || !b.issuer.awaited() {
			continue
		}
		for _, series := range b.wanted(now) {
			for _, list := range b.listsOf(series) {
				if _, ok := b.lists[list]; ok {
					continue
				}
				status := ListStatus{Head: Head{List: list}}
				if state := b.series[series]; state != nil {
					status.Failure = state.failure
				}
				all = append(all, status)
			}
		}
	}
	return all
}

// online reports whether the lists of an issuer are made by instances, and awaited; see Ceremonies for the others.
func (b *books) online() bool {
	return b.issuer.Key != (pki.KeyHash{}) && !b.issuer.Offline && !b.issuer.Over
}

// awaited reports whether lists of the issuer can be expected. Those of a retired issuer whose key is missing may
// never come.
func (i *Issuer) awaited() bool { return !i.Retired || i.Signer != nil }

// Check returns an error of KindUnavailable about everything that an operator must know: that the database went back,
// that lists are missing, and which lists have used up half of the time between their due rebuild and their end. Lists
// of issuers that are off-line or over do not count.
func (p *Publisher) Check() error { return p.check(func(*Issuer) bool { return true }) }

// CheckAwaited is Check without the lists of retired issuers whose key this instance lacks: they may never come.
func (p *Publisher) CheckAwaited() error {
	return p.check((*Issuer).awaited)
}

// Late returns the findings of Check about lists, by issuer.
func (p *Publisher) Late() map[pki.IssuerID]error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	late := make(map[pki.IssuerID]error)
	for id, b := range p.issuers {
		if !b.online() {
			continue
		}
		if err := few(p.lateOf(b)); err != nil {
			late[id] = err
		}
	}
	return late
}

// check is Check for the issuers that count.
func (p *Publisher) check(counts func(*Issuer) bool) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	failures := []error{p.halted}
	for _, b := range p.issuers {
		if b.online() && counts(&b.issuer) {
			failures = append(failures, p.lateOf(b)...)
		}
	}
	if err := few(failures); err != nil {
		return &pki.Error{
			Kind: pki.KindUnavailable, Op: "publish revocation lists", Err: err,
			Hint: "is an instance running that has the issuer's key, and does the database answer it?",
		}
	}
	return nil
}

// lateOf returns what is wrong with the lists of an issuer. p.mu is held.
func (p *Publisher) lateOf(b *books) (failures []error) {
	now := p.config.Now()
	for _, series := range b.wanted(now) {
		why := ""
		if state := b.series[series]; state != nil && state.failure != nil {
			why = ": " + state.failure.Error()
		}
		for _, list := range b.listsOf(series) {
			served, ok := b.lists[list]
			switch {
			case !ok:
				failures = append(failures, fmt.Errorf("%s was never published%s", list, why))
			case !served.head.Final && served.head.NextUpdate.Sub(now) < p.late():
				failures = append(failures, fmt.Errorf("%s ends at %s and was not rebuilt%s", list, served.head.NextUpdate.Format(time.RFC3339), why))
			}
		}
	}
	return failures
}

// few joins errors: the first 32, and the number of the others.
func few(failures []error) error {
	const most = 32
	failures = slices.DeleteFunc(failures, func(err error) bool { return err == nil })
	if more := len(failures) - most; more > 0 {
		failures = append(failures[:most], fmt.Errorf("and %d more", more))
	}
	return errors.Join(failures...)
}

// late returns how long before its end a list becomes a matter for an operator.
func (p *Publisher) late() time.Duration { return (p.config.Validity - p.config.Interval) / 2 }

// MirrorStatus is the status of copying to a mirror.
type MirrorStatus struct {
	Name    string
	Failure error     // last failure since everything was copied, of an index only if no list failed; nil: none
	Since   time.Time // when the first failed attempt began; zero if Failure is nil
}

// Mirrors reports every mirror, in the order of the configuration.
func (p *Publisher) Mirrors() []MirrorStatus {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []MirrorStatus
	for i, m := range p.config.Mirrors {
		worst := p.mirrors[i].lists
		if worst.failure == nil {
			worst = p.mirrors[i].indexes
		}
		all = append(all, MirrorStatus{m.String(), worst.failure, worst.since})
	}
	return all
}

// ceremonyNotice is how long before its end, at most, the next list of an off-line issuer is due: a ceremony takes
// longer to arrange than a rebuild.
const ceremonyNotice = 30 * 24 * time.Hour

// CeremonyStatus is the status of the list of an off-line issuer.
type CeremonyStatus struct {
	Issuer     pki.IssuerID
	NextUpdate time.Time // of the list that is served; zero: there is none
	Due        bool      // a ceremony is due now
	Why        string    // empty unless Due
}

// Ceremonies returns the status of the off-line issuers that are not over. Only people can make their lists.
func (p *Publisher) Ceremonies() []CeremonyStatus {
	p.mu.RLock()
	defer p.mu.RUnlock()
	now := p.config.Now()
	var all []CeremonyStatus
	for id, b := range p.issuers {
		if b.issuer.Key == (pki.KeyHash{}) || !b.issuer.Offline || b.issuer.Over {
			continue
		}
		status := CeremonyStatus{Issuer: id}
		list := List{Series{Issuer: id}, KindComplete}
		served, ok := b.lists[list]
		if ok {
			status.NextUpdate = served.head.NextUpdate
		}
		left := status.NextUpdate.Sub(now)
		switch {
		case !ok:
			status.Why = "it has no list yet: sign one in a ceremony and import it"
		case left <= 0:
			status.Why = "its list ended at " + status.NextUpdate.Format(time.RFC3339) + ": clients that insist on a status refuse what it signed"
		case b.touched(list) > served.head.Seq:
			status.Why = "a revocation waits for the list of a ceremony"
		case left < min(ceremonyNotice, status.NextUpdate.Sub(served.head.ThisUpdate)/4):
			status.Why = "its list ends at " + status.NextUpdate.Format(time.RFC3339)
		}
		status.Due = status.Why != ""
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b CeremonyStatus) int { return strings.Compare(a.Issuer.String(), b.Issuer.String()) })
	return all
}
