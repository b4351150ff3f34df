package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// Which issuer signs. An issuer is fit if it could sign the requested certificate. It is a candidate if it is active,
// has a key and is not a root. The first line below that yields one issuer decides. If none does, noIssuerError
// decides whether the request is refused or waits for an issuer that may sign again.
//
//	a request that names one      that one, unless the profile names another; a root certifies authorities and
//	                              responders only, unless the profile names it
//	a profile that names one      that one, unless it is retired; for approved requests and renewals too
//	a request that names none     the only candidate; of several, the only fit one that succeeds none of the others
//	a renewal                     the issuer of the old certificate, if it is active and fit
//	                              the first of its successors that is a candidate and fit
//	                              wait: it or a successor is fit and disabled
//	                              as a request that names none, if that issuer is fit; at once if the issuer is a root
//	an approved request           as a request that names none, if that issuer is fit
//	that names none               the issuer it would have had when it was filed, if that is a candidate and fit
//
// An issuer that is named, and an only candidate, may be disabled, retired or unfit: the next step refuses it.

// choose finds the issuer of a request: the one it names, else the profile's, else the only candidate. A root issues
// end entities only under a profile that names it, because administrators decide that and not requesters. Of several
// candidates, choose drops those that could refuses, and those that succeed another candidate: a successor takes over
// only when its predecessor is disabled or has ended.
func (s *issuers) choose(p *profile.Profile, asked pki.IssuerID, could func(Issuer) error) (Issuer, error) {
	const op = "choose issuer"
	if !asked.IsZero() {
		issuer, err := s.find(asked)
		switch {
		case err != nil:
			return Issuer{}, err
		case p.Issuer != "" && issuer.Label != p.Issuer:
			return Issuer{}, refuse("issuer", "profile %s is for issuer %s", p.Name, p.Issuer)
		case p.Issuer == "" && issuer.isRoot() && p.CA == nil && !forResponder(p):
			return Issuer{}, refuse("issuer", "issuer %s is a root, and certifies authorities", issuer.Label).
				WithHint("ask an authority below it, or have an administrator make a profile with `issuer: %s`", issuer.Label)
		}
		return issuer, nil
	}
	var candidates []Issuer
	for _, issuer := range s.list() {
		if p.Issuer != "" && issuer.Label == p.Issuer {
			if issuer.State == IssuerRetired {
				// Not a refusal: the profile may be changed, and another instance may have read it again already.
				return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "profile %s names issuer %s, which is retired", p.Name, p.Issuer).
					InField("profile").WithHint("name another `issuer:` in profile %s, and load it: signet profile reload", p.Name)
			}
			return issuer, nil
		}
		if issuer.candidate() {
			candidates = append(candidates, issuer)
		}
	}
	var unfit []error
	if len(candidates) > 1 {
		candidates, unfit = fit(candidates, could)
		candidates = firstOf(candidates, s.list())
	}
	switch {
	case p.Issuer != "":
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "profile %s names issuer %s, which does not exist", p.Name, p.Issuer).InField("profile")
	case len(candidates) == 1:
		return candidates[0], nil
	case len(candidates) == 0 && len(unfit) > 0:
		return Issuer{}, noneFits(unfit)
	case len(candidates) == 0:
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "no issuing CA is active").InField("issuer").
			WithHint("name an issuer, or create one: signet issuer create")
	}
	return Issuer{}, pki.Errorf(pki.KindInvalid, op, "more than one issuer could sign this").InField("issuer").
		WithHint("name one of %s: --issuer NAME, or `issuer: NAME` in the profile", strings.Join(labelsOf(candidates), ", "))
}

// chooseFit is choose for a request that names no issuer, and also refuses an only candidate that could not sign.
func (a *Authority) chooseFit(p *profile.Profile, could func(Issuer) error) (Issuer, error) {
	next, err := a.issuers.choose(p, pki.IssuerID{}, could)
	if err == nil {
		err = could(next)
	}
	return next, err
}

// fit returns the candidates that could sign, and for each of the others why it could not.
func fit(candidates []Issuer, could func(Issuer) error) (fitting []Issuer, unfit []error) {
	for _, c := range candidates {
		err := could(c)
		if err == nil {
			fitting = append(fitting, c)
			continue
		}
		if e, ok := errors.AsType[*pki.Error](err); ok {
			err = pki.Errorf(e.Kind, e.Op, "%s: %w", c.Label, e.Err)
		}
		unfit = append(unfit, err)
	}
	return fitting, unfit
}

// noneFits returns an error that says why each of the issuers could not sign. It is a refusal if every issuer refuses
// the request itself, because waiting for an issuer would not help then.
func noneFits(unfit []error) error {
	kind, texts := pki.KindRefused, []string(nil)
	for _, err := range unfit {
		if pki.KindOf(err) != pki.KindRefused {
			kind = pki.KindFailedPrecondition
		}
		texts = append(texts, errors.Unwrap(err).Error())
	}
	return pki.Errorf(kind, "choose issuer", "no issuer could sign this: %s", strings.Join(texts, "; ")).InField("issuer").
		WithHint("ask for what one of them may sign, or have an administrator create another authority: signet issuer create")
}

func labelsOf(issuers []Issuer) (labels []string) {
	for _, i := range issuers {
		labels = append(labels, i.Label)
	}
	return labels
}

// candidate reports whether an issuer can be chosen for requests that name none.
func (i *Issuer) candidate() bool { return i.State == IssuerActive && i.KeyURI != "" && !i.isRoot() }

// anyMayIssue reports whether any issuer is or can become a candidate.
func (s *issuers) anyMayIssue() bool {
	return slices.ContainsFunc(s.list(), func(i Issuer) bool { return i.State != IssuerRetired && i.KeyURI != "" && !i.isRoot() })
}

// firstOf drops the candidates that succeed another candidate, directly or through others.
func firstOf(candidates, known []Issuer) []Issuer {
	chain := successionOf(known)
	return slices.DeleteFunc(slices.Clone(candidates), func(i Issuer) bool { return chain.follows(i, candidates) })
}

// succession maps each issuer to its predecessor. No issuer succeeds itself, directly or through others.
type succession map[pki.IssuerID]pki.IssuerID

func successionOf(known []Issuer) succession {
	chain := make(succession)
	for _, i := range known {
		chain[i.ID] = i.Succeeds
	}
	return chain
}

// follows reports whether an issuer succeeds one of others, directly or through further issuers.
func (s succession) follows(i Issuer, others []Issuer) bool {
	for before := i.Succeeds; !before.IsZero(); before = s[before] {
		if slices.ContainsFunc(others, func(other Issuer) bool { return other.ID == before }) {
			return true
		}
	}
	return false
}

// successors returns the issuers that succeed one, directly or through others.
func (s *issuers) successors(before Issuer) []Issuer {
	known := s.list()
	chain := successionOf(known)
	return slices.DeleteFunc(slices.Clone(known), func(i Issuer) bool { return !chain.follows(i, []Issuer{before}) })
}

// successor returns the issuer that takes over from another: the first of its successors that are candidates and could
// sign. ok is false if there is none. If two of them are first, the error is of KindInvalid.
func (s *issuers) successor(before Issuer, could func(Issuer) error) (next Issuer, ok bool, err error) {
	fitting, _ := fit(slices.DeleteFunc(s.successors(before), func(i Issuer) bool { return !i.candidate() }), could)
	switch first := firstOf(fitting, s.list()); len(first) {
	case 0:
		return Issuer{}, false, nil
	case 1:
		return first[0], true, nil
	default:
		return Issuer{}, false, pki.Errorf(pki.KindInvalid, "choose issuer", "more than one issuer succeeds %s and could sign this: %s",
			before.Label, strings.Join(labelsOf(first), ", ")).InField("issuer").
			WithHint("disable all of them but one (signet issuer state NAME disabled), or name one in the profile: `issuer: NAME`")
	}
}

// renewer returns the issuer that renews a certificate: the one that issued it; else its successor; else, if it no
// longer issues, the issuer that a request naming none would get. The renewal waits for a disabled issuer or
// successor, because it may be enabled again and relying parties may not know an unrelated one. A profile that names
// an issuer decides for renewals too.
func (a *Authority) renewer(ctx context.Context, p *profile.Profile, old pki.IssuerID, names []pki.Identifier) (Issuer, error) {
	could := func(i Issuer) error { return a.couldSign(ctx, i.ID, p, names) }
	before, err := a.issuers.find(old)
	if err != nil || p.Issuer != "" || before.isRoot() {
		return a.issuers.choose(p, pki.IssuerID{}, could)
	}
	if before.State == IssuerActive && could(before) == nil {
		return before, nil
	}
	next, ok, err := a.issuers.successor(before, could)
	if !ok && err == nil {
		if rests := a.disabledIssuer(before, could); rests != nil {
			return Issuer{}, rests
		}
		next, err = a.chooseFit(p, could)
	}
	if err != nil {
		return Issuer{}, a.noIssuerError(before, could, err)
	}
	return next, nil
}

// disabledIssuer returns an error if the issuer, or a successor of it, could sign but is disabled, so that the renewal
// should wait. It returns nil otherwise. A successor without a certificate does not count: it may never get one.
func (a *Authority) disabledIssuer(before Issuer, could func(Issuer) error) error {
	for _, i := range append([]Issuer{before}, a.issuers.successors(before)...) {
		if i.State == IssuerDisabled && could(i) == nil {
			return waiting(i, inactive(&i))
		}
	}
	return nil
}

// approver returns the issuer of an approved request that names none: the one it would get now, else the one it would
// have had when it was filed. If there was only one then, the requester had no reason to name it, so issuers added
// since are no reason to refuse.
func (a *Authority) approver(p *profile.Profile, filed pki.IssuerID, could func(Issuer) error) (Issuer, error) {
	before, err := a.issuers.find(filed)
	if err != nil {
		return a.issuers.choose(p, pki.IssuerID{}, could)
	}
	next, err := a.chooseFit(p, could)
	switch {
	case err == nil:
		return next, nil
	case before.candidate() && could(before) == nil:
		return before, nil
	}
	return Issuer{}, a.noIssuerError(before, could, err)
}

// noIssuerError returns why no issuer renews a certificate of an issuer, or issues a request filed for it. A request
// does not wait for a retired issuer.
func (a *Authority) noIssuerError(before Issuer, could func(Issuer) error, cause error) error {
	if waits := a.mustWaitFor(before, could, cause); waits != nil {
		return waits
	}
	if before.State == IssuerRetired && (refusal(cause) || !a.issuers.anyMayIssue()) {
		return pki.Errorf(pki.KindRefused, "choose issuer", "%w, and no other issuer can sign it: %v", causeOf(inactive(&before)), causeOf(cause)).
			InField("issuer").WithHint("let another authority succeed it (signet issuer create or update, with --succeeds %s) and ask again", before.Label)
	}
	return cause
}

// mustWaitFor returns an error of KindFailedPrecondition if the other issuers refused but the issuer, or a successor
// of it, may sign again later, so that the request should wait. It returns nil if there is nothing to wait for, or if
// cause is no refusal.
func (a *Authority) mustWaitFor(before Issuer, could func(Issuer) error, cause error) error {
	if !refusal(cause) {
		return nil
	}
	for _, i := range append([]Issuer{before}, a.issuers.successors(before)...) {
		if obstacle := temporaryObstacle(i, could); obstacle != nil {
			return waiting(i, fmt.Errorf("%w, and no other issuer can sign it: %v", causeOf(obstacle), causeOf(cause)))
		}
	}
	return nil
}

// waiting returns an error that says what keeps an issuer, which may sign again, from signing now.
func waiting(i Issuer, cause error) error {
	return pki.Errorf(pki.KindFailedPrecondition, "choose issuer", "%w", causeOf(cause)).InField("issuer").
		WithHint("once it issues again this can be issued; or let another authority succeed it: signet issuer create or update, with --succeeds %s", i.Label)
}

// causeOf returns the cause of an error of this choice without its operation and field, which the error around it
// names.
func causeOf(err error) error {
	if e, ok := err.(*pki.Error); ok {
		return e.Err
	}
	return err
}

// refusal reports whether an error of a choice is permanent.
func refusal(err error) bool {
	return pki.KindOf(err) == pki.KindInvalid || pki.KindOf(err) == pki.KindRefused
}

// temporaryObstacle returns what keeps an issuer from signing now although it may sign later. It returns nil if
// nothing does, or if the obstacle is permanent.
func temporaryObstacle(i Issuer, could func(Issuer) error) error {
	obstacle := could(i)
	if obstacle == nil && i.State != IssuerActive {
		obstacle = inactive(&i)
	}
	if i.State == IssuerRetired || pki.KindOf(obstacle) == pki.KindRefused {
		return nil
	}
	return obstacle
}
