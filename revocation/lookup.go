package revocation

import (
	"context"
	"sync"
	"time"

	"signet.example/signet/pki"
)

const (
	refreshInterval = 50 * time.Millisecond
	refreshTimeout  = 5 * time.Second
	refreshSize     = 10_000 // positions that may wait for one refresh
)

// Lookup answers for a serial. It asks the database only about an index in a range that is open or that this instance
// has not seen, for many callers at once, at most every 50 ms. If it must and the database does not answer, the answer
// is CannotTell with an error of KindUnavailable; KindExhausted if too many wait.
func (u *Universe) Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (Answer, error) {
	answer, asked, ok := u.lookUp(issuer, serial)
	if ok {
		return answer, nil
	}
	recorded, err := u.refresh.ask(ctx, asked)
	if err != nil {
		return Answer{Seq: answer.Seq}, err
	}
	// The entries of the serial are read from memory again: it may have been revoked meanwhile.
	answer, _, ok = u.lookUp(issuer, serial)
	if ok {
		return answer, nil
	}
	switch {
	case recorded.Recorded && recorded.Serial == serial:
		answer.Issuance, answer.Status = Issued, pki.StatusGood
	case recorded.Recorded, recorded.Range.State == RangeNone, recorded.Range.State == RangeFree, recorded.Range.State == RangeLost:
		answer.never(u.isForeign(issuer))
	}
	// Otherwise the range is open, or was closed a moment ago, and the index is not recorded. It may be recorded next,
	// and a signed "never issued" would then be false.
	return answer, nil
}

// StatusOf is Lookup, reduced to the status and the reason.
func (u *Universe) StatusOf(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (pki.Status, pki.Reason, error) {
	answer, err := u.Lookup(ctx, issuer, serial)
	return answer.Status, answer.Reason, err
}

func (u *Universe) isForeign(issuer pki.IssuerID) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	books, known := u.issuers[issuer]
	return known && books.key.Foreign
}

// question is a position about which only the database can answer.
type question struct {
	issuer   pki.IssuerID
	position pki.Position
}

// lookUp answers from memory. If it cannot, ok is false, asked is what to ask the database, and only Seq of the answer
// counts.
func (u *Universe) lookUp(issuer pki.IssuerID, serial pki.Serial) (answer Answer, asked question, ok bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	answer.Seq = u.seq
	books, known := u.issuers[issuer]
	if !known {
		return answer, asked, true
	}
	if r, ok := books.foreign[serial]; ok {
		return r.answer(u.seq), asked, true
	}
	if books.key.Key == (pki.KeyHash{}) {
		return answer, asked, true
	}
	position, dense := serial.Unmask(books.key.Key)
	if !dense { // no certificate of ours has such a serial
		answer.never(books.key.Foreign)
		return answer, asked, true
	}
	if u.passed(issuer, position.Epoch) {
		return answer, asked, true
	}
	var week epochBooks
	if found := books.epochs[position.Epoch]; found != nil {
		week = *found
	}
	changed := week.changed.has(position.Index)
	if changed {
		if r := week.last[position.Index]; r.serial == serial {
			return r.answer(u.seq), asked, true
		}
	}
	switch place := week.at(position.Index); {
	case changed, place.State == RangeLost: // another serial has this index, or none ever will
		answer.never(books.key.Foreign)
		return answer, asked, true
	case place.State == RangeClosed:
		if serial.Matches(place.Key, books.key.Key) {
			answer.Issuance, answer.Status = Issued, pki.StatusGood
		} else {
			answer.never(books.key.Foreign)
		}
		return answer, asked, true
	} // What is free may have been reserved again since: ask.
	if seen, ok := week.recorded[position.Index]; ok {
		if seen == serial {
			answer.Issuance, answer.Status = Issued, pki.StatusGood
		} else {
			answer.never(books.key.Foreign)
		}
		return answer, asked, true
	}
	return answer, question{issuer, position}, false
}

// untouched reports whether memory knows that a certificate was issued and is in no ledger entry up to now.
func (u *Universe) untouched(key Key) bool {
	answer, _, ok := u.lookUp(key.Issuer, key.Serial)
	return ok && answer.Issuance == Issued && answer.EventSeq == 0
}

// never sets the answer to "never issued", unless the issuer has ever signed outside the scheme: then it cannot be
// known.
func (a *Answer) never(foreign bool) {
	if foreign {
		a.Issuance = NotCovered
		return
	}
	a.Issuance, a.Status = NeverIssued, pki.StatusNotIssued
}

// answer returns the status that follows from the last entry of a certificate.
func (r record) answer(seq uint64) Answer {
	a := Answer{Issuance: Issued, Status: pki.StatusGood, Kind: r.kind, EventSeq: r.seq, Seq: seq}
	if r.kind.Revokes() {
		a.Status, a.Reason = pki.StatusRevoked, r.reason
		a.RevokedAt, a.InvalidityAt = time.Unix(r.revokedAt, 0).UTC(), r.invalidity()
	}
	return a
}

// refresh asks the database about positions, those of all callers in one query, at most every refreshInterval.
type refresh struct {
	universe *Universe

	mu      sync.Mutex
	pending *round    // being filled; nil: nobody asks
	last    time.Time // when the last round began
}

// round is one query and those who wait for it.
type round struct {
	questions map[question]bool
	answers   map[question]Recorded // set before done is closed
	err       error                 // set before done is closed
	done      chan struct{}
}

// ask joins the next round and waits for its answer.
func (r *refresh) ask(ctx context.Context, q question) (Recorded, error) {
	r.mu.Lock()
	if r.pending == nil {
		r.pending = &round{questions: map[question]bool{}, done: make(chan struct{})}
		wait := refreshInterval - r.universe.config.Now().Sub(r.last)
		time.AfterFunc(min(max(wait, 0), refreshInterval), r.run) // the clock may have leapt
	}
	this := r.pending
	if len(this.questions) >= refreshSize && !this.questions[q] {
		r.mu.Unlock()
		return Recorded{}, pki.Errorf(pki.KindExhausted, "look up certificate", "more than %d new serials are asked for at once", refreshSize)
	}
	this.questions[q] = true
	r.mu.Unlock()
	select {
	case <-this.done:
		return this.answers[q], this.err
	case <-ctx.Done():
		return Recorded{}, &pki.Error{Kind: pki.KindUnavailable, Op: "look up certificate", Err: ctx.Err()}
	}
}

// run closes the pending round and answers it.
func (r *refresh) run() {
	r.mu.Lock()
	this := r.pending
	r.pending, r.last = nil, r.universe.config.Now()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
	defer cancel()
	this.answers, this.err = r.universe.askDatabase(ctx, this.questions)
	close(this.done)
}

// askDatabase answers questions and remembers what stays true: open ranges, and the serials recorded in them. A range
// that has been closed by now is applied only by follow, together with its voids.
func (u *Universe) askDatabase(ctx context.Context, questions map[question]bool) (map[question]Recorded, error) {
	byIssuer := map[pki.IssuerID][]pki.Position{}
	for q := range questions {
		byIssuer[q.issuer] = append(byIssuer[q.issuer], q.position)
	}
	answers := make(map[question]Recorded, len(questions))
	for issuer, positions := range byIssuer {
		found, err := u.config.Ranges.LookUpSerials(ctx, issuer, positions)
		if err != nil {
			return nil, err
		}
		for i, recorded := range found {
			answers[question{issuer, positions[i]}] = recorded
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for q, recorded := range answers {
		if recorded.Range.State != RangeOpen || u.passed(q.issuer, q.position.Epoch) {
			continue
		}
		if u.applyRanges([]Range{recorded.Range}) {
			u.wakeWatches()
		}
		if week := u.books(q.issuer).epoch(q.position.Epoch); recorded.Recorded && week.at(q.position.Index).State == RangeOpen {
			week.recorded[q.position.Index] = recorded.Serial
		}
	}
	return answers, nil
}
