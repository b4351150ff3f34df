package crl

import (
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// Status is the result of Judge. Zero is Undetermined, never to be read as good.
type Status uint8

// The three outcomes.
const (
	Undetermined Status = iota // the lists at hand do not settle it
	Unrevoked                  // the lists that count cover every reason and do not list it
	Revoked                    // a list that counts lists it
)

// String returns a lower-case word.
func (s Status) String() string {
	switch s {
	case Unrevoked:
		return "unrevoked"
	case Revoked:
		return "revoked"
	}
	return "undetermined"
}

// Target is what Judge needs to know of a certificate.
type Target struct {
	Serial   []byte              // content octets of the INTEGER
	Issuer   []byte              // DER of the issuer's Name
	Version  int                 // 1, 2 or 3
	CA       bool                // basicConstraints with cA TRUE
	Points   []DistributionPoint // cRLDistributionPoints
	Freshest []DistributionPoint // freshestCRL
}

// NewTarget reads a certificate. It takes the serial and the distribution points from the raw octets, because
// crypto/x509 keeps only the first URLs of the latter. An extension that cannot be read is an error, and the status is
// then undetermined.
func NewTarget(c *x509.Certificate) (Target, error) {
	t := Target{Issuer: c.RawIssuer, Version: c.Version, CA: c.BasicConstraintsValid && c.IsCA}
	serial, err := rawSerial(c.RawTBSCertificate)
	if err != nil {
		return Target{}, fmt.Errorf("read certificate: serial number: %w", err)
	}
	t.Serial = serial
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(oidPoints):
			t.Points, err = ParseDistributionPoints(e.Value)
		case e.Id.Equal(oidFreshestCRL):
			t.Freshest, err = ParseDistributionPoints(e.Value)
		}
		if err != nil {
			return Target{}, fmt.Errorf("read certificate: %w", err)
		}
	}
	return t, nil
}

var (
	oidPoints      = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidFreshestCRL = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// rawSerial finds the content octets of the serial number in a TBSCertificate.
func rawSerial(tbs []byte) ([]byte, error) {
	content, _, err := expect(tbs, tagSequence)
	if err != nil {
		return nil, err
	}
	if len(content) > 0 && content[0] == 0xa0 {
		if _, _, content, err = element(content); err != nil {
			return nil, err
		}
	}
	serial, _, err := expect(content, tagInteger)
	return serial, err
}

// Rules are the conditions of one judgement.
type Rules struct {
	At               time.Time     // required
	MaxAge           time.Duration // a list whose thisUpdate is older is stale; 0: nextUpdate alone counts, and must be there
	IgnoreExpiration bool          // also use lists past their nextUpdate, or without one; MaxAge still counts
	IgnoreDeltas     bool          // use complete lists only
	Strict           bool          // refuse lists with List.Deviations, except for what they revoke
	PointsOnly       bool          // if the certificate has distribution points, do not fall back to other lists of its issuer

	// Signers returns the certificates that may have signed a list: named as its issuer, and already validated to the
	// trust anchor of the target (RFC 5280, Section 6.3.3 (f)). Required. Judge checks cRLSign and the signature.
	Signers func(*List) []*x509.Certificate
}

// Judgement is a status with the lists that it rests on.
type Judgement struct {
	Status   Status
	Entry    Entry       // if Revoked
	List     *List       // if Revoked, the list that has the entry, possibly a delta; if Unrevoked, the first that counted
	Used     []*List     // every list that counted, deltas included
	Covered  ReasonFlags // reasons that the lists cover
	Rejected []Rejection // lists that did not count, and why
}

// Rejection says why a list did not count for one distribution point.
type Rejection struct {
	List  *List
	Point int   // index into Target.Points; len(Target.Points) for the locally supplied one
	Cause Cause //
	Err   error // details, for a person
}

func (r Rejection) Error() string { return r.Err.Error() }

// Cause is why a list did not count.
type Cause uint8

// The causes.
const (
	CauseNone      Cause = iota
	CauseIssuer          // its issuer is not the one that the distribution point names
	CauseScope           // its issuing distribution point does not cover the certificate
	CauseReasons         // it covers no reason that others do not cover
	CauseStale           // it is past its nextUpdate, older than MaxAge, or has neither limit
	CauseNotYet          // its thisUpdate is in the future
	CauseCritical        // it has a critical extension that is not understood
	CauseMalformed       // it breaks the standard in a way that leaves its meaning open
	CauseSigner          // no certificate at hand may sign it
	CauseSignature       // no certificate that may sign it made its signature
	CauseDelta           // a delta that does not fit a complete list that counts
	CauseDeviation       // it breaks the standard without affecting its meaning, and Strict is set
	CauseAlgorithm       // its signature algorithm is unknown, or no longer accepted
)

var causeNames = [...]string{
	"none", "issuer", "scope", "reasons", "stale", "not-yet-valid", "critical-extension", "malformed", "signer", "signature",
	"delta", "deviation", "algorithm",
}

// String returns a lower-case word for people and programs.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "none"
}

// Judge decides whether a certificate is revoked, by RFC 5280, Section 6.3.3, with a pool of lists in place of the
// cache that the algorithm updates. The pool may hold complete, delta and indirect lists of any issuers, in any order.
// Of one series the youngest list counts. Of different series, such as a shard and a complete list, a revocation in the
// youngest of any counts; but a hold gives way to a younger list of another series, because it can be released.
func Judge(c Target, lists []*List, rules Rules) Judgement {
	j := &judge{target: c, rules: rules}
	j.issuer, _ = CanonicalName(c.Issuer)
	for _, l := range lists {
		if l.Delta {
			j.deltas = append(j.deltas, l)
		} else {
			j.bases = append(j.bases, l)
		}
	}
	slices.SortStableFunc(j.bases, youngest)
	slices.SortStableFunc(j.deltas, func(a, b *List) int { return cmp.Or(b.Number.Compare(a.Number), youngest(a, b)) })

	for i, point := range c.Points {
		j.point(i, point)
	}
	if !rules.PointsOnly || len(c.Points) == 0 {
		// "If the revocation status has not been determined": a point with the name of the certificate issuer, for
		// those of its lists that no distribution point names.
		j.point(len(c.Points), DistributionPoint{Names: []Name{DirectoryName(c.Issuer)}, Reasons: AllReasons})
	}
	if j.Status == Undetermined && j.Covered == AllReasons {
		j.Status, j.List = Unrevoked, j.Used[0]
	}
	if j.Status == Undetermined {
		j.reportDeltas()
	}
	return j.Judgement
}

// judge is the state of one judgement: Covered is the standard's reasons_mask.
type judge struct {
	Judgement
	target Target
	issuer string // canonical form of target's, empty if that is no name
	rules  Rules
	bases  []*List // complete lists, youngest first
	deltas []*List // largest number first
	looked []*List // complete lists that may count, and were looked in
}

// point processes one distribution point. Once every reason is covered, further lists are only searched for
// contradictions, and rejected only for having ended, so that a caller who uses ended lists can ask again.
func (j *judge) point(i int, point DistributionPoint) {
	for _, list := range j.bases {
		if j.Status == Revoked {
			return
		}
		settled := j.Covered == AllReasons
		if cause, err := j.consider(i, list, point); cause != CauseNone && (!settled || cause == CauseStale) {
			j.reject(list, i, cause, err)
		}
	}
}

// consider applies the steps of Section 6.3.3 to one complete list for one distribution point.
func (j *judge) consider(i int, list *List, point DistributionPoint) (Cause, error) {
	if cause, err := j.issuedFor(list, point); cause != CauseNone { // (b)(1)
		return cause, err
	}
	if cause, err := j.lawful(list); cause != CauseNone {
		return cause, err
	}
	if err := j.covers(list, point); err != nil { // (b)(2)
		return CauseScope, err
	}
	interim := point.Reasons // (d)
	if list.IDP != nil {
		interim &= list.IDP.OnlySomeReasons
	}
	if j.superseded(list) {
		return CauseReasons, errors.New("a younger one of its series counts")
	}
	news := interim&^j.Covered != 0 // (e)
	late, lateErr := j.freshness(list)
	if late == CauseNotYet {
		return late, lateErr
	}
	signer, err := j.signer(list) // (f), (g)
	if err != nil {
		return causeOf(err), err
	}
	delta := j.delta(i, list, signer) // (c), (h)
	if late != CauseNone && delta == nil {
		// (a): a list that ended still counts when a delta brings it up to date.
		return late, lateErr
	}
	entry, from := j.lookUp(list, delta) // (i), (j), (k)
	if from == nil && j.deviates(list) {
		return CauseDeviation, list.Deviations[0]
	}
	j.looked = append(j.looked, list)
	if !news && (from == nil || !j.contradicts(entry, from)) {
		return CauseReasons, errors.New("it covers no reason that is not covered already")
	}
	j.Used = append(j.Used, list)
	if delta != nil {
		j.Used = append(j.Used, delta)
	}
	if from != nil {
		j.Status, j.Entry, j.List = Revoked, entry, from
	}
	j.Covered |= interim // (l)
	return CauseNone, nil
}

// superseded reports whether a younger list of the same series has been searched. Numbers of different series are
// unrelated (RFC 5280, Section 5.2.3).
func (j *judge) superseded(list *List) bool {
	return slices.ContainsFunc(j.looked, func(other *List) bool { return other.SameSeries(list) && youngest(other, list) < 0 })
}

// contradicts reports whether a list with an entry outweighs the lists that counted and have none: it does, unless the
// entry is a hold and one of them is younger.
func (j *judge) contradicts(entry Entry, list *List) bool {
	return entry.Reason != pki.CertificateHold || !slices.ContainsFunc(j.Used, func(used *List) bool { return used.ThisUpdate.After(list.ThisUpdate) })
}

// youngest compares two lists of a series: the youngest comes first.
func youngest(a, b *List) int {
	return cmp.Or(b.ThisUpdate.Compare(a.ThisUpdate), b.Number.Compare(a.Number))
}

// issuedFor is step (b)(1).
func (j *judge) issuedFor(list *List, point DistributionPoint) (Cause, error) {
	if point.CRLIssuer == nil {
		if list.name != j.issuer {
			return CauseIssuer, errors.New("it is of another issuer than the certificate")
		}
		return CauseNone, nil
	}
	named := slices.ContainsFunc(point.CRLIssuer, func(n Name) bool {
		return list.issuedBy(n.Directory())
	})
	if !named {
		return CauseIssuer, errors.New("it is of another issuer than the distribution point names")
	}
	if list.IDP == nil || !list.IDP.Indirect {
		return CauseScope, errors.New("the distribution point names its issuer, and it does not say that it is indirect")
	}
	return CauseNone, nil
}

// lawful refuses a list that must not be used, whatever it covers.
func (j *judge) lawful(list *List) (Cause, error) {
	if list.Unusable != nil {
		if _, ok := errors.AsType[*CriticalExtensionError](list.Unusable); ok {
			return CauseCritical, list.Unusable
		}
		return CauseMalformed, list.Unusable
	}
	return CauseNone, nil
}

// deviates reports whether the silence of a list does not count. What the list revokes always counts.
func (j *judge) deviates(list *List) bool { return j.rules.Strict && len(list.Deviations) > 0 }

// covers is step (b)(2).
func (j *judge) covers(list *List, point DistributionPoint) error {
	scope := list.IDP
	switch {
	case scope == nil:
		return nil
	case (scope.Names != nil || scope.Relative != nil) && !j.meets(list, point):
		return errors.New("no name of its issuing distribution point is in the distribution point")
	case scope.OnlyUserCerts && j.target.CA:
		return errors.New("it covers user certificates only, and this is the certificate of an authority")
	case scope.OnlyCACerts && !j.target.CA:
		return errors.New("it covers certificates of authorities only, and this is not one")
	case (scope.OnlyUserCerts || scope.OnlyCACerts) && j.target.Version < 3:
		// RFC 5280, Section 5.2.5: such a scope must not include certificates that do not state their kind.
		return errors.New("it covers one kind of certificates, and one of version 1 or 2 does not say its kind")
	case scope.OnlyAttributeCerts:
		return errors.New("it covers attribute certificates only")
	}
	return nil
}

// meets is step (b)(2)(i).
func (j *judge) meets(list *List, point DistributionPoint) bool {
	issued := list.IDP.places
	if list.IDP.Relative != nil {
		issued = canonicalNames(fullName(list.Issuer, list.IDP.Relative))
	}
	wanted := point.Names
	switch {
	case point.Relative != nil:
		// Section 4.2.1.13: relative to the cRLIssuer, or else to the issuer of the certificate; issuedFor has matched
		// it.
		wanted = fullName(list.Issuer, point.Relative)
	case wanted == nil:
		wanted = point.CRLIssuer
	}
	return slices.ContainsFunc(wanted, func(n Name) bool { return issued[n.canonical()] })
}

func fullName(base, relative []byte) []Name {
	if name, ok := relativeName(base, relative); ok {
		return []Name{name}
	}
	return nil
}

// freshness judges the times of a list.
func (j *judge) freshness(list *List) (Cause, error) {
	at, maxAge := j.rules.At, j.rules.MaxAge
	switch {
	case list.ThisUpdate.After(at):
		return CauseNotYet, fmt.Errorf("its thisUpdate %s is in the future", list.ThisUpdate.Format(time.RFC3339))
	case maxAge > 0 && at.Sub(list.ThisUpdate) > maxAge:
		return CauseStale, fmt.Errorf("its thisUpdate %s is longer ago than %s", list.ThisUpdate.Format(time.RFC3339), maxAge)
	case j.rules.IgnoreExpiration:
		return CauseNone, nil
	case list.NextUpdate.IsZero() && maxAge == 0:
		return CauseStale, errors.New("it has no nextUpdate, and no maximum age is set")
	case !list.NextUpdate.IsZero() && at.After(list.NextUpdate):
		return CauseStale, fmt.Errorf("its nextUpdate %s has passed", list.NextUpdate.Format(time.RFC3339))
	}
	return CauseNone, nil
}

// signer returns the certificate that signed the list and was allowed to: steps (f) and (g).
func (j *judge) signer(list *List) (*x509.Certificate, error) {
	var failure error = &SignatureError{CauseSigner, errors.New("no certificate of its issuer is at hand")}
	if j.rules.Signers == nil {
		return nil, failure
	}
	for _, certificate := range j.rules.Signers(list) {
		err := list.Verify(certificate)
		if err == nil {
			return certificate, nil
		}
		// Of several failures, report the one of the check that comes last.
		if causeOf(err) >= causeOf(failure) {
			failure = err
		}
	}
	return nil, failure
}

func causeOf(err error) Cause {
	if e, ok := errors.AsType[*SignatureError](err); ok {
		return e.Cause
	}
	return CauseSignature
}

// delta returns the youngest delta that brings a complete list up to date: steps (c) and (h).
func (j *judge) delta(i int, list *List, signer *x509.Certificate) *List {
	if j.rules.IgnoreDeltas {
		return nil
	}
	for _, delta := range j.deltas {
		cause, err := j.considerDelta(list, delta, signer)
		if cause == CauseNone {
			return delta
		}
		j.reject(delta, i, cause, err)
	}
	return nil
}

func (j *judge) considerDelta(list, delta *List, signer *x509.Certificate) (Cause, error) {
	if err := list.AcceptsDelta(delta); err != nil {
		return CauseDelta, err
	}
	if cause, err := j.lawful(delta); cause != CauseNone {
		return cause, err
	}
	if entry, found := delta.Lookup(j.target.Serial, j.target.Issuer); j.deviates(delta) && (!found || entry.Reason == pki.RemoveFromCRL) {
		return CauseDeviation, delta.Deviations[0]
	}
	if cause, err := j.freshness(delta); cause != CauseNone {
		return cause, err
	}
	if err := delta.Verify(signer); err != nil { // (h): the same key
		return causeOf(err), err
	}
	return CauseNone, nil
}

// lookUp is steps (i), (j) and (k). from is the list that revokes, nil if neither does.
func (j *judge) lookUp(list, delta *List) (entry Entry, from *List) {
	for _, from := range []*List{delta, list} {
		if from == nil {
			continue
		}
		if entry, found := from.Lookup(j.target.Serial, j.target.Issuer); found && entry.Reason != pki.RemoveFromCRL {
			return entry, from
		} else if found {
			break
		}
	}
	return Entry{}, nil
}

func (j *judge) reject(list *List, point int, cause Cause, err error) {
	j.Rejected = append(j.Rejected, Rejection{list, point, cause, err})
}

// reportDeltas reports deltas that were needed by no complete list.
func (j *judge) reportDeltas() {
	for _, delta := range j.deltas {
		used := slices.Contains(j.Used, delta)
		if !used && !slices.ContainsFunc(j.Rejected, func(r Rejection) bool { return r.List == delta }) {
			j.reject(delta, len(j.target.Points), CauseDelta, errors.New("no complete list that counts needs it"))
		}
	}
}
