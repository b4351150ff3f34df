package pki_test

import (
	"testing"
	"time"

	"signet.example/signet/pki"
)

func TestRetention(t *testing.T) {
	const year = 365 * 24 * time.Hour
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var none pki.Retention
	if got := none.Cutoff(start); !got.Equal(start) {
		t.Errorf("without retention: %s", got)
	}
	one := none.Raise(year, start)
	ten := one.Raise(10*year, start.Add(3*year))
	for what, c := range map[string]struct {
		r    pki.Retention
		now  time.Time
		want time.Time
	}{
		"what expired before the promise was given up": {one, start, start},
		"half of the interval later":                   {one, start.Add(year / 2), start},
		"twice the interval later":                     {one, start.Add(2 * year), start.Add(year)},
		"raised: what one year kept":                   {ten, start.Add(3 * year), start.Add(2 * year)},
		"raised, and some years later":                 {ten, start.Add(9 * year), start.Add(2 * year)},
		"raised, and the interval has gone by":         {ten, start.Add(20 * year), start.Add(10 * year)},
		"a shorter one changes nothing":                {ten.Raise(year, start.Add(20*year)), start.Add(20 * year), start.Add(10 * year)},
	} {
		if got := c.r.Cutoff(c.now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	// However often it is raised, the cutoff never goes back.
	r, last := pki.Retention{}, time.Time{}
	for month := range 240 {
		now := start.AddDate(0, month, 0)
		if month%17 == 3 {
			r = r.Raise(time.Duration(month)*30*24*time.Hour, now)
		}
		if cutoff := r.Cutoff(now); cutoff.Before(last) || cutoff.After(now) {
			t.Fatalf("month %d: %s after %s", month, cutoff, last)
		} else {
			last = cutoff
		}
	}
}
