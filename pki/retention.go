package pki

import "time"

// Retention says how long an issuer answers for certificates after they have expired. The zero Retention means not at
// all. It only grows: a promise is kept.
type Retention struct {
	Keep  time.Duration // after the end of a certificate; zero: nothing is kept
	Since time.Time     // certificates that had expired before it were dropped before the promise, and stay so
}

// Cutoff returns the time such that, at now, the issuer answers for certificates that expired at or after it:
// expiredCertsOnCRL (X.509, Section 9.5.2.8) and the archive cutoff of OCSP (RFC 6960, Section 4.4.4). It never goes
// back unless now does, through any number of Raises, so two processes agree on it whenever they started.
func (r Retention) Cutoff(now time.Time) time.Time {
	if r.Keep <= 0 {
		return now
	}
	cutoff := now.Add(-r.Keep)
	if cutoff.Before(r.Since) {
		return r.Since
	}
	return cutoff
}

// Raise returns the Retention that keeps for longer from now on, or r if it already keeps for as long.
func (r Retention) Raise(keep time.Duration, now time.Time) Retention {
	if keep <= r.Keep {
		return r
	}
	return Retention{Keep: keep, Since: r.Cutoff(now)}
}
