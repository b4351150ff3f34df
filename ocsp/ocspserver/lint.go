package ocspserver

import (
	"sync"

	"signet.example/signet/ca/lint"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// maxShapes is the largest number of shapes that are remembered.
const maxShapes = 1024

// linted remembers which shapes of responses pass the linter's OCSP rules from the RFCs, which are about form. The
// first response of each shape is checked before it is sent; others of the shape differ only in serial numbers, dates
// and hash values. The rules of the CA/Browser Forum are about how long an answer lives, which is configuration:
// `signet lint` checks them, since no answer at all would be worse.
type linted struct {
	mu     sync.RWMutex
	passed map[shape]struct{} // guarded by mu
}

// shape is everything in a response that the rules look at, except dates.
type shape struct {
	delegate *Delegate
	nonce    int
	extended bool
	answers  string
}

func shapeOf(delegate *Delegate, draft *ocsp.ResponseData) shape {
	answers := make([]byte, 0, 4*len(draft.Answers))
	for i := range draft.Answers {
		a := &draft.Answers[i]
		parts := byte(0)
		for bit, there := range [...]bool{a.NextUpdate.IsZero(), a.ArchiveCutoff.IsZero(), a.InvalidityAt.IsZero(), a.RevokedAt.Unix() == 0} {
			if there {
				parts |= 1 << bit
			}
		}
		answers = append(answers, byte(a.Status), byte(a.Reason), byte(a.ID.Hash), parts)
	}
	return shape{delegate, len(draft.Nonce), draft.ExtendedRevoke, string(answers)}
}

// check checks a response against the rules if it is the first of its shape.
func (l *linted) check(delegate *Delegate, draft *ocsp.ResponseData, der []byte) error {
	s := shapeOf(delegate, draft)
	l.mu.RLock()
	_, known := l.passed[s]
	l.mu.RUnlock()
	if known {
		return nil
	}
	if err := lint.Refusal(lint.OCSP(der, false)); err != nil {
		return &pki.Error{Kind: pki.KindInternal, Op: "lint OCSP response", Err: err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.passed == nil || len(l.passed) >= maxShapes {
		l.passed = make(map[shape]struct{})
	}
	l.passed[s] = struct{}{}
	return nil
}
