package server

import (
	"fmt"
	"time"
)

// clocksDiffer is the largest difference that is tolerated between the clocks of an instance and of the database.
// Clients refuse lists and responses from the future, some of them from one minute on.
const clocksDiffer = time.Minute

// span returns the bounds of the current time. If the clocks differ, one of them is wrong, and it is not known which.
func (s *Server) span() (earliest, latest time.Time) {
	now := s.options.Now()
	if s.publisher == nil { // nothing is published yet, and the database's time is not known
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

// earliest returns the time for all statements about status. It is true by both clocks: it claims less than the later
// one would.
func (s *Server) earliest() time.Time {
	earliest, _ := s.span()
	return earliest
}

// checkClock warns if the clocks differ.
func (s *Server) checkClock(add func(name, state, detail string)) {
	skew, than := s.publisher.Skew(), "ahead of"
	if skew < 0 {
		than = "behind"
	}
	if skew.Abs() <= clocksDiffer {
		add("clock", "ok", "")
		return
	}
	add("clock", "warning", fmt.Sprintf("this instance's is %s %s the database's: one of them is wrong; lists, responses and revocations carry the earlier time",
		skew.Abs().Round(time.Second), than))
}
