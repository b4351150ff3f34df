package pki

import "time"

// Retention says how long an issuer answers for certificates after they have expired. The zero Retention is not at all. It
// only ever grows: what was promised is kept.
type Retention struct {
	Keep  time.Duration // after the end of a certificate; zero: nothing is kept
	Since time.Time     // what had expired before was given up before the promise was made, and stays so
}

// Cutoff is the time such that whatever expired at or after it is answered for at now: expiredCertsOnCRL (X.509, Section
// 9.5.2.8) and the archive cutoff of OCSP (RFC 6960, Section 4.4.4). It never goes back while now does not, through any
// number of Raises, so that two processes agree on it whenever either began.
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

// Raise returns the retention that keeps longer from now on, or r if it keeps as long already.
func (r Retention) Raise(keep time.Duration, now time.Time) Retention {
	if keep <= r.Keep {
		return r
	}
	return Retention{Keep: keep, Since: r.Cutoff(now)}
}
