package server

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// freshnessInterval is how often expiring products are checked for the log.
const freshnessInterval = 10 * time.Second

// alarm is about something that expires soon, or has expired, and was not replaced.
type alarm struct{ why, next string }

// alarms returns the current alarms by subject, named as in /readyz. Those about lists are by issuer.
func (s *Server) alarms() map[string]alarm {
	all := make(map[string]alarm)
	for issuer, err := range s.publisher.Late() {
		all["crl/"+s.labelOf(issuer)] = alarm{strings.ReplaceAll(err.Error(), "\n", "; "),
			"start an instance that has the issuer's key; the log of one that runs says why it does not publish"}
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

// alarmBook records which alarms were logged.
type alarmBook struct {
	mu     sync.Mutex
	before map[string]alarm // the alarms at the last check; guarded by mu
	told   map[string]bool  // those in the log; guarded by mu
}

// tellFreshness logs alarms: once when one begins, with the remedy, and once when it is over. It logs only alarms that
// also held at the last check, because a new issuer or a start causes short ones.
func (s *Server) tellFreshness() {
	book := &s.freshness
	book.mu.Lock()
	defer book.mu.Unlock()
	now := s.alarms()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, held := book.before[name]; held && !book.told[name] {
			s.log.Warn("what clients rely on is not being renewed", "what", name, "why", now[name].why, "next", now[name].next)
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
