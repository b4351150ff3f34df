package ocspserver

import (
	"sync"

	"signet.example/signet/ocsp"
)

// served are the issuers that are answered for, and what was asked about their certificates. It is replaced as a whole, so what is
// remembered never outlives the issuers that it was read for.
type served struct {
	given   []Issuer
	issuers map[string]*issuerState // by name in addresses
	asked   asked
}

// inquiry is what an address asks: the status of one certificate.
type inquiry struct {
	issuer *issuerState
	key    certKey
	hash   int
}

// asked remembers the inquiries of addresses, since to read one costs more than to answer it from memory.
type asked struct {
	limit     int
	mu        sync.RWMutex
	inquiries map[string]inquiry // by path as it came; guarded by mu
}

// get takes octets, so that nobody has to make a string of them.
func (a *asked) get(path []byte) (inquiry, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	q, found := a.inquiries[string(path)]
	return q, found
}

// add remembers an address of the usual length; of very many, one is forgotten for it. Maps are walked from a random place.
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
