package server

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// freshnessInterval is how often what ends by itself is looked at, for the log.
const freshnessInterval = 10 * time.Second

// alarm is something that ends soon, or has ended, and was not made anew.
type alarm struct{ why, next string }

// alarms are those that hold now, by what they are of, as /readyz calls it. Lists are told issuer by issuer.
func (s *Server) alarms() map[string]alarm {
	all := make(map[string]alarm)
	for issuer, err := range s.publisher.Late() {
		all["crl/"+s.labelOf(issuer)] = alarm{strings.ReplaceAll(err.Error(), "\n", "; "), "start an instance that has the issuer's key; the log of one that runs says why it does not publish"}
	}
	for _, c := range s.publisher.Ceremonies() {
		if c.Due {
			all["ceremony/"+s.labelOf(c.Issuer)] = alarm{c.Why, "hold a ceremony: signet ceremony crl, then signet crl import"}
		}
	}
	for _, delegate := range s.delegates() {
		if why, _ := responderAlarm(delegate); why != "" {
			all["ocsp/"+s.labelOf(delegate.Issuer)] = alarm{why, "start an instance that has the issuer's key; OCSP goes on until the certificate ends"}
		}
	}
	for _, issuer := range *s.issuers.known.Load() {
		s.checkExpiry(func(name, state, detail string) {
			if state != "ok" {
				all[name] = alarm{detail, "create its successor with a new key and name: signet issuer create; and have clients trust what it needs"}
			}
		}, issuer)
	}
	return all
}

// alarmBook is what was said of alarms so far.
type alarmBook struct {
	mu     sync.Mutex
	before map[string]alarm // guarded by mu; those of the last look
	told   map[string]bool  // guarded by mu; those in the log
}

// tellFreshness says in the log what ends soon, or has ended, and was not made anew: once when that begins, with what to do, and once
// when it is over. It tells of alarms that held at the last look too: those that do not last are a new issuer, or a start.
func (s *Server) tellFreshness() {
	book := &s.freshness
	book.mu.Lock()
	defer book.mu.Unlock()
	now := s.alarms()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, held := book.before[name]; held && !book.told[name] {
			s.log.Warn("what clients rely on is not made anew", "what", name, "why", now[name].why, "next", now[name].next)
			if book.told == nil {
				book.told = make(map[string]bool)
			}
			book.told[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(book.told)) {
		if _, holds := now[name]; !holds {
			s.log.Info("an alarm is over", "what", name)
			delete(book.told, name)
		}
	}
	book.before = now
}
