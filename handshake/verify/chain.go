package verify

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
	"slices"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// maxCandidateChains is the largest number of chains of one case that are checked for revocation.
const maxCandidateChains = 32

// judgeChain answers whether a chain may be accepted. One chain that passes every check is enough. If none does, the
// Result is the fault of the first.
func judgeChain(c *Case) Result {
	k, bad := c.conditions()
	if bad != nil {
		return bad.result(Reject)
	}
	leaf, err := ParseCertificate(c.Leaf)
	if err != nil {
		return unread("the certificate", c.Leaf, err).result(Reject)
	}
	depth, bad := c.Revocation.depth()
	if bad != nil {
		return bad.result(Reject)
	}
	roots, badRoot := certificates(c.Roots)
	intermediates, badIntermediate := certificates(append(c.Intermediates, c.Untrusted...))
	chains, bad := c.paths(leaf, roots, intermediates, k.at)
	if bad != nil {
		if len(roots) == 0 {
			bad = cmp.Or(badRoot, bad)
		} else if bad.class == ClassPath && len(intermediates) == 0 {
			bad = cmp.Or(badIntermediate, bad)
		}
		return bad.result(Reject)
	}
	evidence := &evidence{conditions: k, pool: distinct(intermediates), responses: c.OCSPs}
	evidence.lists, evidence.badList = lists(c.CRLs)
	var first *Result
	for _, chain := range chains[:min(len(chains), maxCandidateChains)] {
		r := evidence.judge(chain, depth)
		if r.Result == Accept {
			return r
		}
		if first == nil {
			first = &r
		}
	}
	return *first
}

// depth is how many certificates of the chain are checked, and whether a certificate without evidence is refused.
type depth struct {
	leaf, chain bool
	hard        bool
}

func (r Revocation) depth() (depth, *fault) {
	switch r {
	case "", RevocationOff:
		return depth{}, nil
	case RevocationSoftLeaf:
		return depth{leaf: true}, nil
	case RevocationSoftChain:
		return depth{leaf: true, chain: true}, nil
	case RevocationHardLeaf:
		return depth{leaf: true, hard: true}, nil
	case RevocationHardChain:
		return depth{leaf: true, chain: true, hard: true}, nil
	}
	return depth{}, faultf(ClassUnsupported, "revocation %.40q is not known", string(r))
}

// paths builds and validates paths with crypto/x509. What it refuses although RFC 5280 allows it gets a second attempt,
// with respelt copies of the certificates.
func (c *Case) paths(leaf *x509.Certificate, roots, intermediates []*x509.Certificate, at time.Time) ([][]*x509.Certificate, *fault) {
	said, between := leaf, intermediates
	if c.judgesPolicies() {
		said, between = withoutPolicies([]*x509.Certificate{leaf})[0], withoutPolicies(intermediates)
	}
	chains, bad, err := c.x509Paths(said, roots, between, at)
	if bad != nil {
		return nil, bad
	}
	if class := classOfPath(err); (class == ClassPath || class == ClassUnsupported) && len(roots)+len(between) <= maxRespelt {
		again := respell([]*x509.Certificate{said}, roots, between)
		second, _, failed := c.x509Paths(again[0][0], again[1], again[2], at)
		originals(second, []*x509.Certificate{leaf}, roots, intermediates)
		chains = slices.DeleteFunc(second, func(chain []*x509.Certificate) bool { return !keepsPathLengths(chain) })
		if len(chains) > 0 {
			err = nil
		} else if failed != nil && class == ClassUnsupported {
			err = failed // only the constraints were not understood, and they are checked later
		}
	}
	if class := classOfPath(err); class == ClassPath && beyondX509(err, leaf, distinct(roots, intermediates)) {
		return nil, faultf(ClassUnsupported, "%v", err)
	} else if err != nil {
		return nil, faultf(class, "%v", err)
	}
	originals(chains, []*x509.Certificate{leaf}, roots, intermediates)
	check := constraintCheck{left: maxComparisons}
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool {
		broken := cmp.Or(check.chain(chain), checkForm(chain))
		if broken == nil && c.judgesPolicies() {
			broken = c.keepsPolicies(chain)
		}
		bad = cmp.Or(bad, broken)
		return broken != nil
	})
	if len(chains) == 0 {
		return nil, bad
	}
	return chains, nil
}

// x509Paths is one attempt with crypto/x509. The error is that of crypto/x509; the fault is about the case.
func (c *Case) x509Paths(leaf *x509.Certificate, roots, intermediates []*x509.Certificate, at time.Time) ([][]*x509.Certificate, *fault, error) {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, root := range roots {
		options.Roots.AddCert(root)
	}
	for _, intermediate := range intermediates {
		options.Intermediates.AddCert(intermediate)
	}
	if bad := c.options(&options); bad != nil {
		return nil, bad, nil
	}
	chains, err := leaf.Verify(options)
	return chains, nil, err
}

// beyondX509 reports whether crypto/x509 failed because of something that RFC 5280 allows and it does not support: DSA
// keys, signatures with DSA or SHA-1, and kinds of keys that it does not know.
func beyondX509(err error, leaf *x509.Certificate, pool []*x509.Certificate) bool {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		return false
	}
	return slices.ContainsFunc(append(pool, leaf), func(c *x509.Certificate) bool {
		switch c.SignatureAlgorithm {
		case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
			return true
		}
		return c.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm
	})
}

func (c *Case) options(options *x509.VerifyOptions) *fault {
	switch c.EKU {
	case "", "any":
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case "serverAuth":
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case "clientAuth":
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		return faultf(ClassUnsupported, "eku %.40q: want serverAuth, clientAuth or any", c.EKU)
	}
	if c.DNS != nil && c.IP != nil && *c.DNS != "" && *c.IP != "" {
		return faultf(ClassUnsupported, "dns and ip at once")
	}
	if c.DNS != nil {
		options.DNSName = *c.DNS
	}
	if c.IP != nil && *c.IP != "" {
		addr, err := netip.ParseAddr(*c.IP)
		if err != nil {
			return faultf(ClassUnsupported, "ip %.40q is not an address", *c.IP)
		}
		options.DNSName = addr.String()
	}
	for _, text := range c.Policies {
		oid, err := x509.ParseOID(text)
		if err != nil {
			return faultf(ClassUnsupported, "policy %.40q is not an object identifier", text)
		}
		options.CertificatePolicies = append(options.CertificatePolicies, oid)
	}
	return nil
}

// classOfPath returns the class of an error from crypto/x509.
func classOfPath(err error) Class {
	if err == nil {
		return ClassNone
	} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return ClassName
	} else if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return ClassUnsupported
	} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return ClassExpired
		case x509.NoValidChains:
			return ClassPolicy // of the three checks that crypto/x509 does last, the other two have errors of their own
		}
	}
	return ClassPath
}

// evidence is everything at hand about the certificates of a case.
type evidence struct {
	conditions
	pool      []*x509.Certificate // untrusted
	lists     []*crl.List
	responses []DER
	badList   *fault

	// For the chain being judged:
	revoked, trusted map[asked]bool                    // results for signers of lists and for the CAs above them
	signed           map[*crl.List][]*x509.Certificate // signers
}

// asked identifies a question about a certificate outside the chain. The answer depends on how deep the search may go.
type asked struct {
	about *x509.Certificate
	depth int
}

// judge checks the status of the certificates of a chain that verified.
func (e *evidence) judge(chain []*x509.Certificate, depth depth) Result {
	r := Result{Result: Accept}
	e.revoked, e.trusted, e.signed = make(map[asked]bool), make(map[asked]bool), make(map[*crl.List][]*x509.Certificate)
	for i := range chain[:len(chain)-1] {
		if !depth.leaf || i > 0 && !depth.chain {
			break
		}
		found := e.find(chain, i)
		r.PerCert = append(r.PerCert, found.of(serialOf(chain[i])))
		switch {
		case found.Status == pki.StatusRevoked:
			r.Result, r.Class, r.Detail = Reject, ClassRevoked, "certificate "+serialOf(chain[i])+" is revoked ("+found.reason.String()+"), says "+found.source
			return r
		case found.Status == pki.StatusUnknown && (depth.hard || found.fault.spoiled()):
			if r.Result == Accept {
				r.Result, r.Class, r.Detail = Reject, found.fault.class, found.fault.detail
			}
		}
	}
	return r
}

// spoiled reports whether the evidence about a certificate is bad: not signed as it says, of another time, or not
// understood. The soft modes tolerate missing evidence, not bad evidence.
func (f *fault) spoiled() bool { return f != nil && f.class != ClassNoInformation }

// find asks every source about one certificate of a chain and returns the finding that outweighs the rest.
func (e *evidence) find(chain []*x509.Certificate, i int) finding {
	cert, issuer := chain[i], chain[i+1]
	if exempt, _ := Exempt(cert); exempt { // checkForm has refused contradictions
		return finding{Word: Word{Status: pki.StatusExempt}, source: "certificate"}
	}
	listed := e.findInLists(chain, cert, maxSignerDepth)
	query := ocsp.Query{Certificate: cert, Issuers: []*x509.Certificate{issuer}, Untrusted: e.pool, Time: e.at, MaxAge: e.maxAge}
	answered := findingOfResponses(e.responses, func(der DER) (ocsp.Result, error) { return e.believe(chain, der, query) })
	if answered.says() && (!listed.says() || answered.Outweighs(listed.Word)) {
		return answered
	} else if !listed.says() && len(e.responses) > 0 {
		listed.fault = moreTelling(listed.fault, answered.fault)
	}
	return listed
}

// believe is ocsp.Verify with two more rules: a revocation that cannot be taken back counts at any age, and a response
// from a delegated responder that is itself known to be revoked does not count.
func (e *evidence) believe(chain []*x509.Certificate, der DER, query ocsp.Query) (ocsp.Result, error) {
	result, err := ocsp.Verify(der, query)
	if stale, ok := errors.AsType[*ocsp.StaleError](err); ok && cannotBeTakenBack(stale.Said) {
		result, err = stale.Said, nil
	}
	if responder := result.Responder; err == nil && responder.Delegated && e.isRevoked(chain, responder.Certificate, maxSignerDepth) {
		return ocsp.Result{}, &ocsp.UnauthorizedError{Responder: responder.Certificate, Err: errors.New("its certificate is revoked")}
	}
	return result, err
}

// maxSignerDepth is how many levels of CRL signers are checked for revocation by CRLs of further signers. At the last
// level, only lists signed by certificates of the chain count.
const maxSignerDepth = 3

// findInLists follows RFC 5280, Section 6.3.3. It validates the path of CRL issuers (f): they must lead to the anchor
// of the chain over CAs that are not revoked, and must not be revoked themselves. A signer outside the chain cannot
// vouch for itself: whoever stole its key would declare it good.
func (e *evidence) findInLists(chain []*x509.Certificate, cert *x509.Certificate, depth int) finding {
	target, err := crl.NewTarget(cert)
	if err != nil {
		return finding{fault: faultf(ClassParse, "%v", err)}
	}
	known := make(map[*crl.List][]*x509.Certificate) // for the passes over the same lists
	rules := e.rules(func(list *crl.List) []*x509.Certificate {
		if allowed, ok := known[list]; ok {
			return allowed
		}
		var allowed []*x509.Certificate
		for _, signer := range e.signers(chain, list) {
			// Certificates of the chain are checked on their own; checking them here would not terminate. A signer that
			// did not sign this list is not checked: there may be many, each with lists of its own.
			outside := !contains(chain, signer)
			if outside && list.Verify(signer) == nil && (signer.Equal(cert) || depth == 0 || !e.trusts(chain, signer, depth-1)) {
				continue
			}
			allowed = append(allowed, signer)
		}
		known[list] = allowed
		return allowed
	})
	found := findingOfLists(JudgeLists(target, e.lists, rules))
	if found.Status == pki.StatusUnknown && !found.fault.spoiled() && e.badList != nil {
		found.fault = e.badList // it may have been the one about this certificate
	}
	return found
}

// signers returns the certificates that were allowed to sign a list and did. After them comes the one that came closest
// to having signed it, which shows what is wrong with a list that none of them signed. The result is kept, because
// every certificate of the chain, and every signer of lists, is judged by all lists.
func (e *evidence) signers(chain []*x509.Certificate, list *crl.List) []*x509.Certificate {
	if signed, known := e.signed[list]; known {
		return signed
	}
	named := Signers(list.Issuer, chain, e.pool, e.at, nil)
	var signed, closest []*x509.Certificate
	var least crl.Cause
	for i, signer := range named {
		err := list.Verify(signer)
		if err == nil {
			signed = append(signed, signer)
		} else if failure, ok := errors.AsType[*crl.SignatureError](err); ok && failure.Cause >= least {
			closest, least = named[i:i+1], failure.Cause
		}
	}
	e.signed[list] = append(signed, closest...)
	return e.signed[list]
}

// trusts reports whether a signer of lists leads to the chain over certificates that are not revoked. The result is
// kept for all lists of this signer, since finding it involves all other lists.
func (e *evidence) trusts(chain []*x509.Certificate, signer *x509.Certificate, depth int) bool {
	question := asked{signer, depth}
	trusted, known := e.trusted[question]
	if !known {
		search := newSearch(chain, e.pool, e.at)
		search.revoked = func(c, _ *x509.Certificate) bool { return e.isRevoked(chain, c, depth) }
		trusted = search.leadsToAnchor(signer)
		e.trusted[question] = trusted
	}
	return trusted
}

// isRevoked reports whether the lists revoke a certificate outside the chain. The result is kept.
func (e *evidence) isRevoked(chain []*x509.Certificate, c *x509.Certificate, depth int) bool {
	question := asked{c, depth}
	revoked, known := e.revoked[question]
	if !known {
		revoked = e.findInLists(chain, c, depth).Status == pki.StatusRevoked
		e.revoked[question] = revoked
	}
	return revoked
}

// JudgeLists is crl.Judge with one more rule: a revocation that cannot be taken back counts at any age, so it also
// counts if a list that has not expired says otherwise (but of two complete lists the newer counts). Only good and a
// hold expire.
func JudgeLists(target crl.Target, lists []*crl.List, rules crl.Rules) crl.Judgement {
	judgement := crl.Judge(target, lists, rules)
	if !isFinal(judgement) && slices.ContainsFunc(judgement.Rejected, func(r crl.Rejection) bool { return r.Cause == crl.CauseStale }) {
		rules.IgnoreExpiration, rules.MaxAge = true, 0
		if old := crl.Judge(target, lists, rules); isFinal(old) {
			return old
		}
	}
	return judgement
}

// isFinal reports whether a judgement is a revocation that cannot be taken back.
func isFinal(j crl.Judgement) bool {
	return j.Status == crl.Revoked && j.Entry.Reason != pki.CertificateHold
}

var (
	oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}
	oidPoints     = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidFreshest   = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidNoCheck    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	null          = []byte{asn1.TagNull, 0}
)

// Exempt reports whether a certificate declares that it has no revocation status: noRevAvail (RFC 9608), or
// ocsp-nocheck in the certificate of an OCSP responder (RFC 6960, Section 4.2.2.2.1). ocsp-nocheck in any other
// certificate has no effect. The error is a contradiction: by RFC 9608, Section 4, validation fails if noRevAvail is in
// a CA certificate or beside a pointer to status.
func Exempt(c *x509.Certificate) (bool, error) {
	if value, has := extension(c, oidNoRevAvail); has {
		return true, checkNoRevAvail(c, value)
	}
	_, noCheck := extension(c, oidNoCheck)
	responder := false
	for _, usage := range c.ExtKeyUsage {
		responder = responder || usage == x509.ExtKeyUsageOCSPSigning
	}
	return noCheck && responder && !c.IsCA, nil
}

func checkNoRevAvail(c *x509.Certificate, value []byte) error {
	_, points := extension(c, oidPoints)
	_, freshest := extension(c, oidFreshest)
	switch {
	case !bytes.Equal(value, null):
		return errors.New("noRevAvail is not NULL")
	case c.IsCA:
		return errors.New("noRevAvail in a CA certificate")
	case points:
		return errors.New("noRevAvail together with CRL distribution points")
	case freshest:
		return errors.New("noRevAvail together with a freshest CRL")
	case len(c.OCSPServer) > 0:
		return errors.New("noRevAvail together with an OCSP responder")
	}
	return nil
}

func extension(c *x509.Certificate, id asn1.ObjectIdentifier) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value, true
		}
	}
	return nil, false
}
