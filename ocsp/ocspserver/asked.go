package ocspserver

import (
	"sync"

	"signet.example/signet/ocsp"
)

// served are the issuers that the responder answers for, and the inquiries made about their certificates. It is
// replaced as a whole, so an inquiry never outlives the issuers that it was read for.
type served struct {
	given   []Issuer
	issuers map[string]*issuerState // by name in URLs
	asked   asked
}

// inquiry is the question that a URL asks: the status of one certificate.
type inquiry struct {
	issuer *issuerState
	key    certKey
	hash   int
}

// asked remembers the inquiries of URLs. Parsing one costs more than answering it from memory.
type asked struct {
	limit     int
	mu        sync.RWMutex
	inquiries map[string]inquiry // by path as received; guarded by mu
}

// get takes octets, so that callers need not make a string of them.
func (a *asked) get(path []byte) (inquiry, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	q, found := a.inquiries[string(path)]
	return q, found
}

// add remembers the inquiry of a URL path of the usual length. At the limit it forgets another one: map iteration
// starts at a random place.
func (a *asked) add(path string, q inquiry) {
	if len(path) > ocsp.MaxGETURL {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inquiries == nil {
		a.inquiries = make(map[string]inquiry)
	}
	for other := range a.inquiries {
		if len(a.inquiries) < a.limit {
			break
		}
		delete(a.inquiries, other)
	}
	a.inquiries[path] = q
}
