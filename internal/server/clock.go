package server

import (
	"fmt"
	"time"
)

// clocksDiffer is by how much the clock of an instance may differ from the database's before that counts: clients refuse lists and
// responses from the future, some of them a minute from it.
const clocksDiffer = time.Minute

// span is between which times it is now: one of the two clocks is wrong, and nobody here can tell which.
func (s *Server) span() (earliest, latest time.Time) {
	now := s.options.Now()
	if s.publisher == nil { // nothing is published yet, and the database was not asked for its time
		return now, now
	}
	switch skew := s.publisher.Skew(); {
	case skew > clocksDiffer:
		return now.Add(-skew), now
	case skew < -clocksDiffer:
		return now, now.Add(-skew)
	}
	return now, now
}

// earliest is the time that everything about status carries: it claims less than the other clock would, and is true by both.
func (s *Server) earliest() time.Time {
	earliest, _ := s.span()
	return earliest
}

// checkClock warns of clocks that differ.
func (s *Server) checkClock(add func(name, state, detail string)) {
	skew, than := s.publisher.Skew(), "ahead of"
	if skew < 0 {
		than = "behind"
	}
	if skew.Abs() <= clocksDiffer {
		add("clock", "ok", "")
		return
	}
	add("clock", "warning", fmt.Sprintf("this instance's is %s %s the database's: one of them is wrong; lists, responses and revocations carry the earlier time", skew.Abs().Round(time.Second), than))
}
