package ocsp

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// maxTried bounds the signature checks for one response.
const maxTried = 8

// defaultMaxAge bounds the age of a response without nextUpdate if the caller gives no bound: its responder says that
// newer information is available all the time (RFC 6960, Section 4.2.2.1), so an old one is a replay.
const defaultMaxAge = 24 * time.Hour

// noCheckID is OIDNoCheck in the form of crypto/x509.
var noCheckID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// Query names the certificate in question and what is required of a response about it. Issuers, Time, and one of
// Certificate, CertificateDER and Serial are required.
type Query struct {
	// Certificate is the one in question. It need not have been verified.
	Certificate *x509.Certificate
	// CertificateDER replaces Certificate if crypto/x509 does not parse it.
	CertificateDER []byte
	// Serial replaces Certificate if only the serial number is known: INTEGER content octets.
	Serial []byte
	// Issuers are the certificates of authorities that may have issued Certificate. The caller trusts them; only their
	// name and key are used. Of several with the name that Certificate gives as its issuer (an authority that changed
	// its key), the one whose key signed Certificate counts.
	Issuers []*x509.Certificate
	// Untrusted are further certificates, beside those in the response, among which a delegated responder is searched.
	Untrusted []*x509.Certificate
	// Time is the time of the judgement.
	Time time.Time
	// MaxAge bounds the age of thisUpdate. Zero: only nextUpdate bounds it, or 24 hours if the response has none.
	MaxAge time.Duration
	// Skew is how far the clocks of responder and caller may differ, in either direction. Zero: not at all.
	Skew time.Duration
	// Nonce, if not nil, must be in the response.
	Nonce []byte
	// Known, if not nil, saves checking the signature of a responder certificate again.
	Known *KnownDelegates
	// AllowSHA1 accepts signatures over SHA-1. Zero refuses them: collisions are affordable.
	AllowSHA1 bool
}

// Result is the statement of an authentic, fresh response of an authorised responder. The zero value states nothing.
type Result struct {
	Status        pki.Status // Good, Revoked or Unknown
	Reason        pki.Reason // of a revocation
	RevokedAt     time.Time
	InvalidityAt  time.Time // zero if the response does not say
	ThisUpdate    time.Time
	NextUpdate    time.Time // zero if the response does not say
	ProducedAt    time.Time
	ArchiveCutoff time.Time // zero if the response does not say
	Responder     Responder
	// ExtendedRevoke says that this responder also answers revoked for certificates that were never issued (RFC 6960,
	// Section 4.4.8).
	ExtendedRevoke bool
	// NeverIssued says that this certificate was never issued. Status is then Revoked, and the answer must not be kept
	// beyond NextUpdate.
	NeverIssued bool
	// NonceMatched says that the response has the nonce that was demanded.
	NonceMatched bool
}

// Responder is the signer of a response.
type Responder struct {
	Certificate *x509.Certificate // equal to Issuer if the issuer itself signed
	Issuer      *x509.Certificate // the one of Query.Issuers that it answers for
	Delegated   bool              // Issuer issued Certificate for this purpose
	NoCheck     bool              // Certificate asks not to be checked for revocation (RFC 6960, Section 4.2.2.2.1)
}

// Verify parses a response and judges what it says about the certificate in question. An error means that it does not
// settle the status; it is one of the error types of this package, found with errors.As, and the Result is then zero.
func Verify(der []byte, query Query) (Result, error) {
	response, err := ParseResponse(der)
	if err != nil {
		return Result{}, err
	}
	return response.Verify(query)
}

// Verify judges a parsed response; see the function Verify.
func (r *Response) Verify(q Query) (Result, error) {
	if r.Status != Successful {
		return Result{}, &UnsuccessfulError{Status: r.Status}
	}
	if err := r.checkCritical(); err != nil {
		return Result{}, err
	}
	subject, err := q.subject()
	if err != nil {
		return Result{}, err
	}
	issuer, answers := r.answersFor(q, subject)
	if issuer == nil {
		return Result{}, &WrongCertificateError{Serial: subject.serial, Named: len(r.Answers)}
	}
	for _, a := range answers {
		if id, found := firstUnknownCritical(a.Extensions, OID.knownInResponse); found {
			return Result{}, &CriticalExtensionError{ID: id}
		}
	}
	responder, err := r.findResponder(issuer, q)
	if err != nil {
		return Result{}, err
	}
	if q.Nonce != nil && !bytes.Equal(q.Nonce, r.Nonce) {
		return Result{}, &NonceError{Got: r.Nonce}
	}
	return r.judge(q, subject, responder, answers)
}

// VerifyResponder verifies only the signer: that the signature verifies and its maker may answer for the issuer of
// every certificate that the response names. It does not judge freshness. It ignores Query.Certificate, Serial, MaxAge
// and Nonce; Issuers may hold every authority that the caller knows.
func (r *Response) VerifyResponder(q Query) (Responder, error) {
	if r.Status != Successful {
		return Responder{}, &UnsuccessfulError{Status: r.Status}
	}
	if err := r.checkCritical(); err != nil {
		return Responder{}, err
	}
	if len(r.Answers) == 0 {
		return Responder{}, &WrongCertificateError{}
	}
	var first error = &WrongCertificateError{Serial: r.Answers[0].ID.Serial, Named: len(r.Answers)}
	matched := false
	for _, cert := range q.Issuers {
		if !r.allOf(cert) {
			continue
		}
		responder, err := r.findResponder(cert, q)
		if err == nil {
			return responder, nil
		}
		if !matched {
			first, matched = err, true
		}
	}
	return Responder{}, first
}

// allOf reports whether every certificate that the response names is one of this issuer.
func (r *Response) allOf(cert *x509.Certificate) bool {
	issuer, err := IssuerOf(cert)
	return err == nil && !slices.ContainsFunc(r.Answers, func(a SingleResponse) bool { return !issuer.Matches(a.ID) })
}

// checkCritical refuses unknown critical extensions (RFC 5280, Section 4.2, for the meaning of critical).
func (r *Response) checkCritical() error {
	if id, found := firstUnknownCritical(r.Extensions, OID.knownInResponse); found {
		return &CriticalExtensionError{ID: id}
	}
	return nil
}

// answersFor returns the issuer that counts and the answers about the certificate in question. There may be several
// answers: one per hash algorithm, or contradicting ones.
func (r *Response) answersFor(q Query, s subject) (*x509.Certificate, []SingleResponse) {
	for _, cert := range q.candidates(s) {
		issuer, err := IssuerOf(cert)
		if err != nil {
			continue
		}
		if s.issuer != nil {
			issuer.Name = s.issuer // RFC 6960, Section 4.1.1: as it stands in the certificate in question
		}
		var answers []SingleResponse
		for _, a := range r.Answers {
			if bytes.Equal(a.ID.Serial, s.serial) && issuer.Matches(a.ID) {
				answers = append(answers, a)
			}
		}
		if answers != nil {
			return cert, answers
		}
	}
	return nil, nil
}

// candidates returns the issuers that may have issued the certificate in question. A single one of the right name is
// trusted to be it; among several, and for one of another name, the signature on the certificate decides.
func (q Query) candidates(s subject) []*x509.Certificate {
	if s.issuer == nil {
		return q.Issuers
	}
	var named, other []*x509.Certificate
	for _, cert := range q.Issuers {
		sameKey := func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo)
		}
		if !bytes.Equal(cert.RawSubject, s.issuer) {
			other = append(other, cert)
		} else if !slices.ContainsFunc(named, sameKey) {
			named = append(named, cert)
		}
	}
	if len(named) == 1 {
		return named
	}
	return slices.DeleteFunc(append(named, other...), func(cert *x509.Certificate) bool {
		return checkSignature(s.algorithm, s.tbs, s.signature, cert.PublicKey, q.AllowSHA1) != nil
	})
}

// findResponder finds the certificate that the responder identifier names and whose key made the signature, and checks
// that it is authorised: it is the issuer itself, or the issuer issued it for this purpose (RFC 6960, Section 4.2.2.2).
// If none qualifies, the error is that of the candidate that came closest.
func (r *Response) findResponder(issuer *x509.Certificate, q Query) (Responder, error) {
	var unauthorized, badSignature error
	tried := 0
	for cert := range r.responders(issuer, q) {
		if !r.names(cert) {
			continue
		}
		if tried++; tried > maxTried {
			break
		}
		responder, err := authorize(cert, issuer, q)
		signatureErr := checkSignature(r.Algorithm, r.Signed, r.Signature, cert.PublicKey, q.AllowSHA1)
		switch {
		case signatureErr != nil:
			badSignature = &SignatureError{Responder: cert, Err: signatureErr}
		case err != nil:
			unauthorized = err
		default:
			return responder, nil
		}
	}
	switch {
	case unauthorized != nil:
		return Responder{}, unauthorized
	case badSignature != nil:
		return Responder{}, badSignature
	}
	return Responder{}, &UnauthorizedError{Err: errors.New("the certificate that it names is not at hand")}
}

// responders yields the candidates for the responder's certificate: the issuer, those in the response, those of
// Query.Untrusted.
func (r *Response) responders(issuer *x509.Certificate, q Query) func(func(*x509.Certificate) bool) {
	return func(yield func(*x509.Certificate) bool) {
		if !yield(issuer) {
			return
		}
		for _, der := range r.Certificates {
			cert, err := q.Known.parse(der)
			if err == nil && !yield(cert) { // one that does not parse may be irrelevant: the signature decides
				return
			}
		}
		for _, cert := range q.Untrusted {
			if !yield(cert) {
				return
			}
		}
	}
}

// names reports whether the responder identifier names this certificate.
func (r *Response) names(cert *x509.Certificate) bool {
	if r.ResponderName != nil {
		return bytes.Equal(r.ResponderName, cert.RawSubject)
	}
	issuer, err := IssuerOf(cert)
	return err == nil && bytes.Equal(r.ResponderKey, issuer.ResponderKey())
}

// authorize decides whether cert may answer for issuer.
func authorize(cert, issuer *x509.Certificate, q Query) (Responder, error) {
	refuse := func(why string) (Responder, error) {
		return Responder{}, &UnauthorizedError{Responder: cert, Err: errors.New(why)}
	}
	if bytes.Equal(cert.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) && bytes.Equal(cert.RawSubject, issuer.RawSubject) {
		return Responder{Certificate: issuer, Issuer: issuer}, nil
	}
	// RFC 6960, Section 4.2.2.2: issued directly by the issuer of the certificate in question, under the same key.
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return refuse("its certificate names another issuer")
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return refuse("its certificate is not for signing OCSP responses")
	}
	// RFC 5280, Section 4.2.1.12: consistent with id-kp-OCSPSigning are digitalSignature and nonRepudiation.
	if cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return refuse("the key usage of its certificate excludes signing")
	}
	if slices.ContainsFunc(cert.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool { return !id.Equal(noCheckID) }) {
		return refuse("its certificate has a critical extension that is not known")
	}
	if err := q.Known.checkIssued(cert, issuer, q.AllowSHA1); err != nil {
		return refuse("its certificate was not signed with the issuer's key: " + err.Error())
	}
	if q.Time.Before(cert.NotBefore.Add(-q.Skew)) || q.Time.After(cert.NotAfter.Add(q.Skew)) {
		return Responder{}, &ExpiredResponderError{Responder: cert, At: q.Time}
	}
	noCheck := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(noCheckID) })
	return Responder{Certificate: cert, Issuer: issuer, Delegated: true, NoCheck: noCheck}, nil
}

// judge selects among authentic answers. Among fresh ones the strictest counts: revoked before unknown before good.
func (r *Response) judge(q Query, s subject, responder Responder, answers []SingleResponse) (Result, error) {
	var best Result
	var stale error
	found := false
	for _, a := range answers {
		result := r.result(q, responder, a)
		if err := q.checkTimes(s, result); err != nil {
			stale = err
			continue
		}
		if !found || strictness(result.Status) > strictness(best.Status) {
			best, found = result, true
		}
	}
	if !found {
		return Result{}, stale
	}
	return best, nil
}

func strictness(s pki.Status) int {
	switch s {
	case pki.StatusRevoked:
		return 2
	case pki.StatusGood:
		return 0
	}
	return 1
}

func (r *Response) result(q Query, responder Responder, a SingleResponse) Result {
	return Result{
		Status: a.Status, Reason: a.Reason, RevokedAt: a.RevokedAt, InvalidityAt: a.InvalidityAt,
		ThisUpdate: a.ThisUpdate, NextUpdate: a.NextUpdate, ProducedAt: r.ProducedAt, ArchiveCutoff: a.ArchiveCutoff,
		Responder: responder, ExtendedRevoke: r.ExtendedRevoke, NeverIssued: r.ExtendedRevoke && a.neverIssued(),
		NonceMatched: q.Nonce != nil,
	}
}

// checkTimes applies RFC 6960, Section 3.2, points 5 and 6, and the caller's bound.
func (q Query) checkTimes(s subject, said Result) error {
	maxAge := q.MaxAge
	if maxAge == 0 && said.NextUpdate.IsZero() {
		maxAge = defaultMaxAge
	}
	late := !said.NextUpdate.IsZero() && (!q.Time.Before(said.NextUpdate.Add(q.Skew)) || said.NextUpdate.Before(said.ThisUpdate))
	old := maxAge > 0 && q.Time.After(said.ThisUpdate.Add(maxAge+q.Skew))
	if said.ThisUpdate.After(q.Time.Add(q.Skew)) || late || old {
		return &StaleError{Said: said, At: q.Time, MaxAge: maxAge}
	}
	return q.checkProduced(s, said)
}

// checkProduced refuses an answer that was produced while the certificate was not valid: earlier, the responder cannot
// have known it; later, it need not remember it, unless its archive cutoff reaches back (RFC 6960, Section 4.4.4).
func (q Query) checkProduced(s subject, said Result) error {
	if s.issuer == nil {
		return nil
	}
	before := said.ProducedAt.Before(s.notBefore.Add(-q.Skew))
	after := said.ProducedAt.After(s.notAfter.Add(q.Skew))
	archived := !said.ArchiveCutoff.IsZero() && !said.ArchiveCutoff.After(s.notAfter)
	if before || after && !archived {
		return &OutsideValidityError{Said: said, NotBefore: s.notBefore, NotAfter: s.notAfter}
	}
	return nil
}
