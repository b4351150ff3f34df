package ocspserver

import (
	"strconv"
	"sync/atomic"
	"time"

	"signet.example/signet/ocsp"
)

// Stats holds counters since a Responder was made, and its state.
type Stats struct {
	Successful   uint64 // replies with a signed response
	Kept         uint64 // of which the response was kept in memory
	Malformed    uint64 // malformedRequest
	Unauthorized uint64 // unauthorized
	TryLater     uint64 // tryLater
	Internal     uint64 // internalError
	HTTP         uint64 // replies that are not OCSP responses: not found, too long ...

	Signed      uint64 // responses signed
	Refreshed   uint64 // of which in the background
	Failed      uint64 // responses that could not be signed or did not pass the check
	Unavailable uint64 // look-ups that failed because the database did not answer
	Lost        uint64 // changes of the ledger that could not be read; answers stay correct, at a higher cost

	Answers int    // responses kept
	Waiting int    // requests waiting for a signature
	Seq     uint64 // every answer includes the ledger up to here
	InStep  bool   // Run has followed the ledger up to there, so kept answers need no second look
}

type counters struct {
	successful, kept, malformed, unauthorized, tryLater, internal, http atomic.Uint64
	signed, refreshed, failed, unavailable, lost                        atomic.Uint64
}

// count counts a reply by its status.
func (c *counters) count(reply *Reply) {
	switch {
	case reply.Code != 200:
		c.http.Add(1)
	case reply.ETag != "":
		c.successful.Add(1)
	default:
		switch ocsp.ResponseStatus(reply.Body[len(reply.Body)-1]) {
		case ocsp.MalformedRequest:
			c.malformed.Add(1)
		case ocsp.Unauthorized:
			c.unauthorized.Add(1)
		case ocsp.TryLater:
			c.tryLater.Add(1)
		default:
			c.internal.Add(1)
		}
	}
}

// Stats returns the counters.
func (r *Responder) Stats() Stats {
	c, seq := &r.counters, r.config.Universe.Seq()
	return Stats{
		Successful: c.successful.Load(), Kept: c.kept.Load(), Malformed: c.malformed.Load(), Unauthorized: c.unauthorized.Load(),
		TryLater: c.tryLater.Load(), Internal: c.internal.Load(), HTTP: c.http.Load(),
		Signed: c.signed.Load(), Refreshed: c.refreshed.Load(), Failed: c.failed.Load(), Unavailable: c.unavailable.Load(), Lost: c.lost.Load(),
		Answers: int(r.cache.size.Load()), Waiting: int(r.pool.waiting.Load()), Seq: seq, InStep: r.cache.inStep(seq),
	}
}

func seconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}
