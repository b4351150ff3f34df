package crlserver

import (
	"context"
	"errors"
	"fmt"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// MissingError says that a list leaves out certificates that the ledger has as revoked.
type MissingError struct {
	Serials []pki.Serial // the first few
	Count   int
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d revoked certificates are not on it, the first is %s", e.Count, e.Serials[0])
}

// missingShown is how many serials a MissingError names.
const missingShown = 10

// Import publishes the complete list of an off-line issuer, made at a ceremony. It is refused unless the issuer signed
// it, it is complete, current and newer than the one it replaces, and everything that the ledger has as revoked is on it.
// Errors: KindInvalid (not a list), KindNotFound (of no issuer of ours), KindRefused, KindConflict (number not larger, or
// another import is running), KindUnavailable.
func (p *Publisher) Import(ctx context.Context, der []byte) (Head, error) {
	const op = "import revocation list"
	list, err := crl.Parse(der)
	if err != nil {
		return Head{}, (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("crl")
	}
	refuse := func(kind pki.Kind, format string, args ...any) error {
		return pki.Errorf(kind, op, format, args...).InField("crl")
	}
	issuer, entries, seq, ok := p.offline(list.Issuer)
	if !ok {
		return Head{}, refuse(pki.KindNotFound, "no off-line issuer has the name of the list")
	}
	number, small := list.Number.Uint64()
	now := p.config.Now()
	switch {
	case list.Unusable != nil:
		return Head{}, refuse(pki.KindRefused, "%w", list.Unusable)
	case list.Delta || list.Scope != nil:
		return Head{}, refuse(pki.KindRefused, "it is not a complete list")
	case !list.HasNumber || !small || number == 0 || number > 1<<63-1:
		return Head{}, refuse(pki.KindRefused, "it has no CRL number that can be kept")
	case list.ThisUpdate.After(now) || !list.NextUpdate.After(now):
		return Head{}, refuse(pki.KindRefused, "it holds from %s to %s, not now", list.ThisUpdate, list.NextUpdate)
	}
	if err := list.VerifyKey(issuer.Public, issuer.Key); err != nil {
		return Head{}, refuse(pki.KindRefused, "%w", err)
	}
	if missing := missingFrom(list, entries); missing != nil {
		return Head{}, &pki.Error{Kind: pki.KindRefused, Op: op, Field: "crl", Err: missing, Hint: "make the list again with every revoked certificate on it"}
	}

	series := Series{Issuer: issuer.Key.Issuer()}
	taken, ok, err := p.config.Publications.BeginPublication(ctx, series, p.config.Instance, number, leaseTime)
	switch {
	case err != nil:
		return Head{}, err
	case !ok:
		return Head{}, refuse(pki.KindConflict, "another import is running")
	case taken != number:
		return Head{}, errors.Join(refuse(pki.KindConflict, "its number %d is not larger than that of the list before", number),
			p.config.Publications.FinishPublication(ctx, p.config.Instance, series, taken, nil, nil))
	}
	document := crl.Document{der}
	h := Head{List: List{series, KindComplete}, Number: number, Seq: seq, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate,
		Signature: crl.Signature{Algorithm: list.Algorithm, Value: []byte{}}, // it is in the octets, which are kept
		Sum:       document.Sum(), Size: document.Size(), Entries: list.Len()}
	if err := p.config.Publications.FinishPublication(ctx, p.config.Instance, series, number, []Head{h}, map[int][]byte{0: der}); err != nil {
		return Head{}, err
	}
	p.serve(h, document)
	return h, nil
}

// offline finds an off-line issuer by name, and what the ledger has of it.
func (p *Publisher) offline(name []byte) (issuer Issuer, entries crl.Entries, seq uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.issuers {
		if b.issuer.Offline && crl.SameName(b.issuer.Subject, name) {
			h := Head{List: List{Series{Issuer: b.issuer.Key.Issuer()}, KindComplete}, Seq: p.seq, From: b.first(p.config.Now())}
			return b.issuer, b.content(h).entries, p.seq, true
		}
	}
	return Issuer{}, nil, 0, false
}

// missingFrom compares a list with what must be on it.
func missingFrom(list *crl.List, entries crl.Entries) error {
	missing := &MissingError{}
	for serial := range entries.Serials() {
		octets := serial.Bytes()
		if len(octets) == 0 || octets[0] >= 0x80 {
			octets = append([]byte{0}, octets...)
		}
		if e, found := list.Lookup(octets, list.Issuer); !found || e.Reason == pki.RemoveFromCRL {
			if missing.Count++; len(missing.Serials) < missingShown {
				missing.Serials = append(missing.Serials, serial)
			}
		}
	}
	if missing.Count == 0 {
		return nil
	}
	return missing
}
