package verify

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"

	"signet.example/signet/crl"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// finding is what the evidence says about one certificate.
type finding struct {
	Word   // Status: Good, Revoked, Exempt or Unknown
	source string
	reason pki.Reason
	fault  *fault // why the status is Unknown
}

func (f finding) of(serial string) CertificateStatus {
	s := CertificateStatus{Serial: serial, Status: f.Status.String(), Source: f.source}
	if f.Status == pki.StatusRevoked {
		s.Reason = f.reason.String()
	}
	return s
}

// serialOf returns a serial number as text, like pki.Serial: whole octets without leading zeros. Foreign ones may be
// negative.
func serialOf(cert *x509.Certificate) string { return serialText(cert.SerialNumber) }

// serialOfOctets returns the same for the content octets of an INTEGER, which may be longer than DER allows.
func serialOfOctets(octets []byte) string {
	number := new(big.Int).SetBytes(octets)
	if len(octets) > 0 && octets[0] >= 0x80 {
		number.Sub(number, new(big.Int).Lsh(big.NewInt(1), uint(8*len(octets))))
	}
	return serialText(number)
}

func serialText(number *big.Int) string {
	switch number.Sign() {
	case 0:
		return "00"
	case -1:
		return "-" + hex.EncodeToString(number.Bytes())
	}
	return hex.EncodeToString(number.Bytes())
}

func (f finding) result(serial string) Result {
	r := Result{PerCert: []CertificateStatus{f.of(serial)}}
	switch f.Status {
	case pki.StatusGood:
		r.Result = Good
	case pki.StatusRevoked:
		r.Result, r.Class = Revoked, ClassRevoked
	default:
		r.Result = Unknown
		if f.fault != nil {
			r.Class, r.Detail = f.fault.class, f.fault.detail
		}
	}
	return r
}

// judgeCRLs answers what CRLs say about a certificate whose issuers are given. No path is built and the issuers need no
// basicConstraints. Their keys must still be allowed to sign such a list (RFC 5280, Section 6.3.3 (f)).
func judgeCRLs(c *Case) Result {
	k, bad := c.conditions()
	if bad != nil {
		return bad.result(Unknown)
	}
	leaf, err := ParseCertificate(c.Leaf)
	if err != nil {
		return unread("the certificate", c.Leaf, err).result(Unknown)
	}
	issuers, badIssuer := certificates(c.Issuers)
	pool, badList := lists(c.CRLs)
	target, err := crl.NewTarget(leaf)
	if err != nil {
		return faultf(ClassParse, "%v", err).result(Unknown)
	}
	rules := k.rules(func(list *crl.List) []*x509.Certificate { return named(issuers, list.Issuer) })
	// Each list was fetched for one certificate. It counts if the certificate points to it, and for what it means:
	// whether its issuer keeps the rules for writing lists does not matter.
	rules.Strict, rules.PointsOnly = false, true
	pool = slices.DeleteFunc(pool, func(list *crl.List) bool { return !expects(target, list) })
	f := findingOfLists(crl.Judge(target, pool, rules))
	if f.Status == pki.StatusUnknown && (!f.fault.spoiled() || len(issuers) == 0) {
		f.fault = cmp.Or(badList, badIssuer, f.fault)
	}
	return f.result(serialOf(leaf))
}

// expects returns false for an indirect list if the certificate has distribution points and none of them has a
// cRLIssuer (RFC 5280, Section 4.2.1.13).
func expects(target crl.Target, list *crl.List) bool {
	return list.IDP == nil || !list.IDP.Indirect || len(target.Points) == 0 ||
		slices.ContainsFunc(target.Points, func(point crl.DistributionPoint) bool { return point.CRLIssuer != nil })
}

func (k conditions) rules(signers func(*crl.List) []*x509.Certificate) crl.Rules {
	return crl.Rules{At: k.at, MaxAge: k.maxAge, IgnoreExpiration: k.ignore, Strict: true, Signers: signers}
}

func named(certs []*x509.Certificate, subject []byte) []*x509.Certificate {
	var found []*x509.Certificate
	for _, c := range certs {
		if crl.SameName(c.RawSubject, subject) {
			found = append(found, c)
		}
	}
	return found
}

func findingOfLists(j crl.Judgement) finding {
	source := "crl"
	if j.List != nil && j.List.Delta {
		source = "delta"
	}
	switch j.Status {
	case crl.Revoked:
		return finding{Word: Word{pki.StatusRevoked, isFinal(j), j.List.ThisUpdate}, source: source, reason: j.Entry.Reason}
	case crl.Unrevoked:
		latest := slices.MaxFunc(j.Used, func(a, b *crl.List) int { return a.ThisUpdate.Compare(b.ThisUpdate) })
		return finding{Word: Word{pki.StatusGood, false, latest.ThisUpdate}, source: "crl"}
	}
	return finding{fault: faultOfRejections(j.Rejected)}
}

// faultOfRejections returns the rejection that explains most. A list that is about the certificate and failed comes
// before a list that is about something else.
func faultOfRejections(rejected []crl.Rejection) *fault {
	order := []crl.Cause{
		crl.CauseStale, crl.CauseSignature, crl.CauseAlgorithm, crl.CauseSigner, crl.CauseCritical, crl.CauseMalformed, crl.CauseDeviation, crl.CauseNotYet,
		crl.CauseDelta, crl.CauseReasons, crl.CauseScope, crl.CauseIssuer,
	}
	var best *crl.Rejection
	for i := range rejected {
		if best == nil || slices.Index(order, rejected[i].Cause) < slices.Index(order, best.Cause) {
			best = &rejected[i]
		}
	}
	if best == nil {
		return faultf(ClassNoInformation, "no CRL at hand is about the certificate")
	}
	return faultf(classOfCause(best.Cause), "CRL: %v", best.Err)
}

func classOfCause(cause crl.Cause) Class {
	switch cause {
	case crl.CauseStale, crl.CauseNotYet:
		return ClassStale
	case crl.CauseSignature:
		return ClassBadSignature
	case crl.CauseSigner:
		return ClassPath
	case crl.CauseCritical, crl.CauseAlgorithm:
		return ClassUnsupported
	case crl.CauseMalformed, crl.CauseDeviation:
		return ClassParse
	}
	return ClassNoInformation
}

// judgeOCSPs answers what OCSP responses say about a certificate whose issuers are given.
func judgeOCSPs(c *Case) Result {
	k, bad := c.conditions()
	if bad != nil {
		return bad.result(Unknown)
	}
	// The question is only what the responses say. So the certificate need not parse with crypto/x509, and a signature
	// over SHA-1 counts. A handshake accepts neither.
	query := ocsp.Query{CertificateDER: c.Leaf, Time: k.at, MaxAge: k.maxAge, AllowSHA1: true}
	serial, err := ocsp.SerialOfDER(c.Leaf)
	if err != nil {
		return faultf(ClassParse, "%v", err).result(Unknown)
	}
	issuers, badIssuer := certificates(c.Issuers)
	if len(issuers) == 0 {
		return cmp.Or(badIssuer, faultf(ClassNoInformation, "no issuer is given")).result(Unknown)
	}
	query.Issuers = issuers
	// One that does not parse has signed nothing.
	query.Untrusted, _ = certificates(append(c.Untrusted, c.Intermediates...))
	if query.Nonce, bad = c.nonce(); bad != nil {
		return bad.result(Unknown)
	}
	return findingOfResponses(c.OCSPs, func(der DER) (ocsp.Result, error) { return ocsp.Verify(der, query) }).result(serialOfOctets(serial))
}

// findingOfResponses returns the finding that outweighs the others. If no response makes a statement, it returns the
// first fault, preferring one about a bad response. verifyResponse is ocsp.Verify, or stricter.
func findingOfResponses(responses []DER, verifyResponse func(DER) (ocsp.Result, error)) finding {
	found := finding{fault: faultf(ClassNoInformation, "no OCSP response at hand")}
	for i, der := range responses {
		said := findingOfResponse(verifyResponse(der))
		if said.says() && (!found.says() || said.Outweighs(found.Word)) || !found.says() && (i == 0 || !found.fault.spoiled()) {
			found = said
		}
	}
	return found
}

func findingOfResponse(result ocsp.Result, err error) finding {
	word := Word{Status: result.Status, Final: cannotBeTakenBack(result), ThisUpdate: result.ThisUpdate}
	switch {
	case err != nil:
		return finding{fault: faultOfResponse(err)}
	case word.says():
		return finding{Word: word, source: "ocsp", reason: result.Reason}
	}
	return finding{source: "ocsp", fault: faultf(ClassNoInformation, "the responder does not know the certificate")}
}

func cannotBeTakenBack(result ocsp.Result) bool {
	// Nor is a response about a serial that was never issued final: it has that reason too (RFC 6960, Section 2.2).
	return result.Status == pki.StatusRevoked && result.Reason != pki.CertificateHold
}

func faultOfResponse(err error) *fault {
	class := ClassNoInformation
	if _, ok := errors.AsType[*ocsp.MalformedError](err); ok {
		class = ClassParse
	} else if _, ok := errors.AsType[*ocsp.SignatureError](err); ok {
		class = ClassBadSignature
	} else if _, ok := errors.AsType[*ocsp.UnauthorizedError](err); ok {
		class = ClassPath
	} else if _, ok := errors.AsType[*ocsp.ExpiredResponderError](err); ok {
		class = ClassExpired
	} else if _, ok := errors.AsType[*ocsp.CriticalExtensionError](err); ok {
		class = ClassUnsupported
	} else if _, ok := errors.AsType[*ocsp.StaleError](err); ok {
		class = ClassStale
	} else if _, ok := errors.AsType[*ocsp.OutsideValidityError](err); ok {
		class = ClassStale
	}
	return faultf(class, "%v", err)
}
