package crlserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// MissingError says that a list lacks certificates that are revoked on the ledger.
type MissingError struct {
	Serials []pki.Serial // the first few
	Count   int
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d revoked certificates are not on it, the first is %s", e.Count, e.Serials[0])
}

// missingShown is how many serials a MissingError names.
const missingShown = 10

// Import publishes the complete list of an off-line issuer, made at a ceremony. It refuses the list unless the issuer
// signed it, it is complete, current and newer than the one that it replaces, and it lists everything that is revoked
// on the ledger. expired names exceptions: revoked certificates that the caller knows to have expired, which need not
// be on later lists either. Importing the list that is already served changes nothing. The grant must allow
// auth.ActionManage. The import and every refusal are written to the audit log. Errors: KindDenied, KindInvalid (not a
// list), KindNotFound (no such issuer), KindFailedPrecondition (the issuer signs its own lists), KindRefused,
// KindConflict (number not larger), KindUnavailable.
func (p *Publisher) Import(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) (Head, error) {
	const op = "import revocation list"
	if !grant.Allows(auth.ActionManage, "") || !grant.All() {
		return Head{}, pki.Errorf(pki.KindDenied, op, "%s may not publish lists", grant.Principal().ID)
	}
	if p.config.Imports == nil {
		return Head{}, pki.Errorf(pki.KindFailedPrecondition, op, "this publisher keeps no lists from elsewhere")
	}
	h, err := p.examine(issuer, der, expired)
	if err != nil {
		return Head{}, p.refusedImport(ctx, grant, issuer, err)
	}
	if served, ok := p.served(h.List); ok && served.Sum == h.Sum {
		return served, nil
	}
	switch err := p.config.Imports.ImportPublication(ctx, h, der, p.importEvent(grant, h, sha256.Sum256(der))); {
	case errors.Is(err, ErrFenced):
		return Head{}, p.refusedImport(ctx, grant, issuer, notLarger(h.Number))
	case err != nil:
		return Head{}, err
	}
	p.serve(h, crl.Document{der})
	return h, nil
}

func notLarger(number uint64) error {
	return pki.Errorf(pki.KindConflict, "import revocation list", "its number %d is not larger than that of the list before", number).InField("crl").
		WithHint("numbers are never used twice: sign the list again, in the directory of the ceremony, which remembers them")
}

// Examine returns the list in der if Import would publish it, and changes nothing.
func (p *Publisher) Examine(issuer pki.IssuerID, der []byte, expired []pki.Serial) (*crl.List, error) {
	if _, err := p.examine(issuer, der, expired); err != nil {
		return nil, err
	}
	return crl.Parse(der)
}

// examine decides whether a list may be published, and returns its head.
func (p *Publisher) examine(id pki.IssuerID, der []byte, expired []pki.Serial) (Head, error) {
	const op = "import revocation list"
	list, err := crl.Parse(der)
	if err != nil {
		return Head{}, (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("crl")
	}
	p.readIssuers()
	issuer, due, content, ok := p.offline(id)
	if !ok && p.signs(id) {
		return Head{}, pki.Errorf(pki.KindFailedPrecondition, op, "the issuer signs its own lists here").InField("issuer").
			WithHint("lists are imported for off-line issuers only: signet issuer list")
	}
	if !ok {
		return Head{}, pki.Errorf(pki.KindNotFound, op, "no off-line issuer has this id").InField("issuer").WithHint("adopt it first: signet issuer adopt")
	}
	number, err := p.acceptable(list, issuer, URL(issuer.BaseURL, due.List))
	if err != nil {
		return Head{}, (&pki.Error{Kind: pki.KindRefused, Op: op, Err: err}).InField("crl")
	}
	served, ok := p.served(due.List)
	if ok && number <= served.Number && served.Sum != (crl.Document{der}).Sum() {
		return Head{}, notLarger(number)
	}
	// RFC 5280, Section 3.3: an entry may leave the list once it was on one made after the end of its certificate.
	excused, missing := missingFrom(list, content.entries.Serials(), append(slices.Clone(served.Expired), expired...))
	if missing != nil {
		return Head{}, &pki.Error{
			Kind: pki.KindRefused, Op: op, Field: "crl", Err: missing,
			Hint: "make the list again with every revoked certificate on it, " +
				"or name those that are missing because they have expired: signet crl import --expired",
		}
	}
	h := headOf(due, list, number, der)
	h.Expired = excused
	return h, nil
}

// headOf returns the head of a list that was made elsewhere. due gives its list, ledger sequence and first week.
func headOf(due Head, list *crl.List, number uint64, der []byte) Head {
	h := Head{
		List: due.List, Number: number, Seq: due.Seq, From: due.From, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate,
		Signature: crl.Signature{Algorithm: list.Algorithm, Value: []byte{}}, // the octets, which are kept, have the value
		Sum:       crl.Document{der}.Sum(), Size: int64(len(der)), Entries: list.Len(),
	}
	if list.IDP != nil {
		h.URLs = list.IDP.URLs()
	}
	return h
}

// acceptable checks the scope and the times of a list, and then genuine. It returns the number of the list.
func (p *Publisher) acceptable(list *crl.List, issuer Issuer, url string) (number uint64, err error) {
	switch now := p.config.Now(); {
	case !wholeScope(list.IDP, url):
		// RFC 5280, Section 6.3.3 (b)(2): a client that follows the URL in a certificate uses a list only if it covers
		// the certificate.
		return 0, fmt.Errorf("its issuing distribution point narrows it, or does not name %s", url)
	case !list.NextUpdate.IsZero() && !list.NextUpdate.After(now):
		return 0, fmt.Errorf("it holds from %s to %s, not now", list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	return p.genuine(list, issuer)
}

// genuine checks that a list is the issuer's, is complete, and can be continued by a series.
func (p *Publisher) genuine(list *crl.List, issuer Issuer) (number uint64, err error) {
	number, small := list.Number.Uint64()
	now := p.config.Now()
	switch {
	case !crl.SameName(list.Issuer, issuer.Subject):
		return 0, errors.New("it is of another issuer")
	case list.Unusable != nil: // such as an unknown critical extension
		return 0, list.Unusable
	case list.Delta:
		return 0, errors.New("it is a delta, not a complete list")
	case !list.HasNumber || !small || number == 0 || number > 1<<63-1:
		return 0, errors.New("it has no CRL number that can be kept")
	case list.NextUpdate.IsZero():
		return 0, errors.New("it has no nextUpdate")
	case list.ThisUpdate.After(now):
		return 0, fmt.Errorf("it holds from %s to %s, not now", list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	return number, list.VerifyKey(issuer.Public, issuer.Key)
}

// wholeScope reports whether a list with this scope covers everything of its issuer.
func wholeScope(scope *crl.IssuingDistributionPoint, url string) bool {
	if scope == nil {
		return true
	}
	return !narrowed(scope) && slices.Contains(scope.URLs(), url)
}

// narrowed reports whether a list leaves out some of what its issuer signed.
func narrowed(scope *crl.IssuingDistributionPoint) bool {
	return scope != nil && (scope.OnlyUserCerts || scope.OnlyCACerts || scope.OnlyAttributeCerts || scope.Indirect ||
		scope.OnlySomeReasons != crl.AllReasons || scope.Relative != nil)
}

func (p *Publisher) importEvent(grant auth.Grant, h Head, sum [sha256.Size]byte) audit.Event {
	event := p.eventOf(grant, h.List.Issuer, audit.OK)
	event.Detail = map[string]string{
		"number": strconv.FormatUint(h.Number, 10), "revoked": strconv.Itoa(h.Entries),
		"this_update": h.ThisUpdate.Format(time.RFC3339), "next_update": h.NextUpdate.Format(time.RFC3339), "sha256": hex.EncodeToString(sum[:]),
	}
	if len(h.Expired) > 0 {
		event.Detail["expired"] = fmt.Sprint(h.Expired)
	}
	return event
}

// refusedImport writes a refusal to the audit log and returns it.
func (p *Publisher) refusedImport(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, cause error) error {
	event := p.eventOf(grant, issuer, audit.Refused)
	text := cause.Error()
	event.Detail = map[string]string{"error": strings.ToValidUTF8(text[:min(len(text), 500)], "")}
	if err := p.config.Imports.AppendAudit(context.WithoutCancel(ctx), []audit.Event{event}); err != nil {
		return err // the refusal is not returned unless it is in the log
	}
	return cause
}

func (p *Publisher) eventOf(grant auth.Grant, issuer pki.IssuerID, outcome audit.Outcome) audit.Event {
	principal := grant.Principal()
	return audit.Event{At: p.config.Now(), Actor: principal.ID, Action: "crl.import", Target: "issuer/" + issuer.String(), Outcome: outcome,
		RequestID: principal.RequestID, Source: principal.Source}
}

// offline returns an off-line issuer, the ledger sequence and the first week for its list (due), and the content that
// the list must have.
func (p *Publisher) offline(id pki.IssuerID) (issuer Issuer, due Head, must content, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, known := p.issuers[id]
	if !known || !b.issuer.Offline || p.gaveUp(p.config.Now()) {
		return Issuer{}, Head{}, content{}, false
	}
	due = Head{List: List{Series{Issuer: id}, KindComplete}, Seq: p.seq, From: b.first(p.config.Now())}
	return b.issuer, due, b.content(due), true
}

// signs reports whether the lists of an issuer are made here.
func (p *Publisher) signs(id pki.IssuerID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, known := p.issuers[id]
	return known && !b.issuer.Offline
}

// served returns the head of a list as it is served now.
func (p *Publisher) served(list List) (Head, bool) {
	_, head, ok := p.Document(list)
	return head, ok
}

// missingFrom returns a *MissingError if a list lacks a revoked serial that was not named as expired. excused are the
// missing serials that were named. A serial that was named but is not revoked is not among them, because it may be
// revoked later.
func missingFrom(list *crl.List, revoked iter.Seq[pki.Serial], expired []pki.Serial) (excused []pki.Serial, err error) {
	missing := &MissingError{}
	named := make(map[pki.Serial]bool)
	for _, serial := range expired {
		named[serial] = true
	}
	for serial := range revoked {
		switch {
		case onList(list, serial):
		case named[serial]:
			excused = append(excused, serial)
		default:
			if missing.Count++; len(missing.Serials) < missingShown {
				missing.Serials = append(missing.Serials, serial)
			}
		}
	}
	if missing.Count == 0 {
		return excused, nil
	}
	return nil, missing
}

func onList(list *crl.List, serial pki.Serial) bool {
	e, found := list.Lookup(serial.Integer(), list.Issuer)
	return found && e.Reason != pki.RemoveFromCRL
}
