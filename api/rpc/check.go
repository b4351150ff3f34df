package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// CheckCertificate answers whether a certificate is authentic and in force. Every caller with a credential may ask
// about any certificate: its holder has it anyway, and its status is public.
func (s *certificateService) CheckCertificate(ctx context.Context, m *signetv1.CheckCertificateRequest) (*signetv1.CheckCertificateResponse, error) {
	const op = "check certificate"
	if !m.HasCertificate() {
		return nil, invalid(op, "certificate", "which certificate?")
	}
	certificate, err := certificateFrom(op, m)
	if err != nil {
		return nil, err
	}
	at, err := timeFrom(op, "at", m.GetAt())
	if err != nil {
		return nil, err
	}
	if at.IsZero() {
		at = s.api.config.Now().UTC()
	}
	c := &check{api: s.api, certificate: certificate, at: at, issuers: s.api.config.Authority.Issuers()}
	c.run(ctx)
	return c.answer(), nil
}

// check is the state of one check. Each step adds evidence; the first that fails decides.
type check struct {
	api         *API
	certificate *x509.Certificate
	at          time.Time
	issuers     []ca.Issuer

	issuer   ca.Issuer
	known    bool // the issuer is one of ours
	status   revocation.Answer
	chain    []*x509.Certificate // above the certificate, nearest first
	evidence []*signetv1.Evidence
	verdict  signetv1.Verdict
	summary  string
}

// run performs the steps in order.
func (c *check) run(ctx context.Context) {
	if !c.signature() {
		return
	}
	c.ledger(ctx)
	c.key()
	c.record(ctx)
	c.validity()
	c.authorities(ctx)
	c.decide(signetv1.Verdict_VERDICT_IN_FORCE, "authentic and in force")
}

// decide sets the verdict unless an earlier step has set one.
func (c *check) decide(verdict signetv1.Verdict, format string, args ...any) {
	if c.verdict == signetv1.Verdict_VERDICT_UNSPECIFIED {
		c.verdict, c.summary = verdict, fmt.Sprintf(format, args...)
	}
}

func (c *check) found(source string, favourable bool, format string, args ...any) {
	c.evidence = append(c.evidence, signetv1.Evidence_builder{Source: &source, Statement: new(fmt.Sprintf(format, args...)), Favourable: &favourable}.Build())
}

// signature finds the issuer by name and verifies the signature with its key.
func (c *check) signature() bool {
	issuer, signed := signer(c.issuers, c.certificate)
	if signed {
		c.issuer, c.known = issuer, true
		c.found("signature", true, "signed by %s (%s)", issuer.Label, issuer.ID)
		return true
	}
	if issuer.ID.IsZero() {
		c.found("signature", false, "no issuer of this server is called %s", c.certificate.Issuer)
		c.decide(signetv1.Verdict_VERDICT_UNKNOWN_ISSUER, "not from an issuer of this server")
		return false
	}
	c.found("signature", false, "it names %s (%s) as its issuer, and the signature is not its", issuer.Label, issuer.ID)
	c.decide(signetv1.Verdict_VERDICT_BAD_SIGNATURE, "the signature is not that of the issuer it names")
	return false
}

// signer returns the issuer that signed a certificate and true, or the one with the issuer name of the certificate and
// false.
func signer(issuers []ca.Issuer, certificate *x509.Certificate) (named ca.Issuer, signed bool) {
	for _, issuer := range issuers {
		if !bytes.Equal(issuer.Subject, certificate.RawIssuer) {
			continue
		}
		named = issuer
		key, err := x509.ParsePKIXPublicKey(issuer.SPKI)
		if err != nil {
			continue
		}
		// Only the key counts here: whether its certificates allow the signature is for verifiers of a chain to decide.
		parent := &x509.Certificate{PublicKey: key}
		if parent.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) == nil {
			return issuer, true
		}
	}
	return named, false
}

// ledger looks up the status.
func (c *check) ledger(ctx context.Context) {
	serial, err := pki.SerialFromBig(c.certificate.SerialNumber)
	if err != nil && c.issuer.Foreign {
		c.elsewhere()
		return
	}
	if err != nil {
		c.found("ledger", false, "the serial number is not one that this issuer gives")
		c.decide(signetv1.Verdict_VERDICT_FORGED, "correctly signed, and never issued: the key of %s may be in other hands", c.issuer.Label)
		return
	}
	c.status, err = c.api.config.Universe.Lookup(ctx, c.issuer.ID, serial)
	switch {
	case err != nil:
		c.found("ledger", false, "what is needed to answer cannot be reached now")
	case c.status.Issuance == revocation.NeverIssued && c.status.Status != pki.StatusRevoked:
		c.found("ledger", false, "no certificate with this serial number was ever issued (as of entry %d)", c.status.Seq)
		c.decide(signetv1.Verdict_VERDICT_FORGED, "correctly signed, and never issued: the key of %s may be in other hands", c.issuer.Label)
	case c.status.Status == pki.StatusRevoked && c.status.Reason == pki.CertificateHold:
		c.found("ledger", false, "on hold since %s (entry %d)", c.status.RevokedAt.Format(time.RFC3339), c.status.EventSeq)
		c.decide(signetv1.Verdict_VERDICT_ON_HOLD, "on hold since %s", c.status.RevokedAt.Format(time.RFC3339))
	case c.status.Status == pki.StatusRevoked:
		c.found("ledger", false, "revoked at %s for %s (entry %d)", c.status.RevokedAt.Format(time.RFC3339), c.status.Reason, c.status.EventSeq)
		c.decide(signetv1.Verdict_VERDICT_REVOKED, "revoked at %s for %s", c.status.RevokedAt.Format(time.RFC3339), c.status.Reason)
	case c.status.Issuance == revocation.NotCovered && c.status.Status != pki.StatusRevoked:
		c.elsewhere()
	case c.status.Status == pki.StatusGood:
		c.found("ledger", true, "issued and not revoked (as of entry %d)", c.status.Seq)
	default:
		c.found("ledger", false, "the status is %s", c.status.Status)
	}
}

// elsewhere records the finding for an issuer that also signs, or has signed, outside this server.
func (c *check) elsewhere() {
	c.found("ledger", false, "issued by %s outside of this server, which knows only that it was not revoked here", c.issuer.Label)
	c.decide(signetv1.Verdict_VERDICT_CANNOT_TELL, "it was issued outside of this server, and not revoked here")
}

// key checks whether the key was reported as compromised. Certificates with such a key that were issued here are
// revoked; for a CA certificate issued elsewhere this is the only evidence.
func (c *check) key() {
	if c.blocked(c.certificate) {
		c.found("key", false, "its key is blocked: it was reported as compromised")
		c.decide(signetv1.Verdict_VERDICT_REVOKED, "its key was reported as compromised")
	}
}

func (c *check) blocked(certificate *x509.Certificate) bool {
	return c.api.config.Authority.KeyBlocked(pki.HashSPKI(certificate.RawSubjectPublicKeyInfo))
}

// record compares the certificate with the one recorded at issuance.
func (c *check) record(ctx context.Context) {
	if c.ofAuthority() {
		c.found("record", true, "it is a certificate of an issuer of this server")
		return
	}
	serial, err := pki.SerialFromBig(c.certificate.SerialNumber)
	if err != nil {
		return // the ledger step has reported it
	}
	grant, err := auth.System("check").Authorize(auth.ActionRead, "")
	if err != nil {
		c.found("record", false, "the record cannot be read now")
		return
	}
	recorded, err := c.api.config.Authority.Get(ctx, grant, c.issuer.ID, serial)
	switch {
	case err != nil && pki.KindOf(err) == pki.KindNotFound && c.signedElsewhere():
		c.found("record", false, "there is no record of it: unless %s signed it before its key came here, that key is in other hands", c.issuer.Label)
	case err != nil && pki.KindOf(err) == pki.KindNotFound:
		c.found("record", false, "there is no record of it")
	case err != nil:
		c.found("record", false, "the record cannot be read now")
	case !bytes.Equal(recorded.DER, c.certificate.Raw):
		c.found("record", false, "another certificate was issued with this serial number")
		c.decide(signetv1.Verdict_VERDICT_FORGED, "correctly signed, and not what was issued: the key of %s may be in other hands", c.issuer.Label)
	case !mayRead(ctx, recorded.Account): // the status is public, but not the account
		c.found("record", true, "recorded at %s", recorded.IssuedAt.UTC().Format(time.RFC3339))
	default:
		c.found("record", true, "recorded at %s for account %s under profile %s", recorded.IssuedAt.UTC().Format(time.RFC3339), recorded.Account, recorded.Profile)
	}
}

// signedElsewhere reports whether an unrecorded certificate was revoked by a caller that had it, and is of an issuer
// whose key is at this server. Then it is not void, and no record was swept, since it has not expired.
func (c *check) signedElsewhere() bool {
	return c.issuer.KeyURI != "" && c.status.Status == pki.StatusRevoked && c.status.Kind != revocation.KindVoid && c.certificate.NotAfter.After(c.api.config.Now())
}

// mayRead reports whether the caller may read the certificates of an account.
func mayRead(ctx context.Context, account string) bool {
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRead)
	return err == nil && grant.Allows(auth.ActionRead, account)
}

// ofAuthority reports whether the certificate is one of our issuers' own.
func (c *check) ofAuthority() bool {
	for _, issuer := range c.issuers {
		for _, own := range issuer.Certificates {
			if bytes.Equal(own.DER, c.certificate.Raw) {
				return true
			}
		}
	}
	return false
}

// validity compares the validity with the clock, and decides if no step could.
func (c *check) validity() {
	from, to := c.certificate.NotBefore.UTC().Format(time.RFC3339), c.certificate.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case c.at.After(c.certificate.NotAfter):
		c.found("validity", false, "valid from %s to %s", from, to)
		c.decide(signetv1.Verdict_VERDICT_EXPIRED, "expired at %s", to)
	case c.at.Before(c.certificate.NotBefore):
		c.found("validity", false, "valid from %s to %s", from, to)
		c.decide(signetv1.Verdict_VERDICT_NOT_YET_VALID, "valid only from %s", from)
	default:
		c.found("validity", true, "valid from %s to %s", from, to)
	}
	if c.unfavourable() {
		c.decide(signetv1.Verdict_VERDICT_CANNOT_TELL, "it cannot be determined now: see the evidence")
	}
}

func (c *check) unfavourable() bool {
	for _, e := range c.evidence {
		if !e.GetFavourable() {
			return true
		}
	}
	return false
}

// authorities checks every CA certificate above: its validity and, if its issuer is ours too, its status.
func (c *check) authorities(ctx context.Context) {
	if len(c.issuer.Certificates) == 0 {
		return
	}
	for _, der := range append([][]byte{c.issuer.Certificates[0].DER}, c.issuer.Certificates[0].Chain...) {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			c.found("chain", false, "a certificate above it cannot be read")
			c.decide(signetv1.Verdict_VERDICT_CANNOT_TELL, "a certificate above it cannot be read")
			return
		}
		if !parsed.Equal(c.certificate) { // nothing is above a root
			c.chain = append(c.chain, parsed)
		}
	}
	for _, authority := range c.chain {
		if c.at.After(authority.NotAfter) || c.at.Before(authority.NotBefore) {
			c.found("chain", false, "%s is valid from %s to %s", authority.Subject, authority.NotBefore.Format(time.RFC3339), authority.NotAfter.Format(time.RFC3339))
			c.decide(signetv1.Verdict_VERDICT_EXPIRED, "the certificate of %s is not valid at the time asked about", authority.Subject)
			continue
		}
		if c.blocked(authority) {
			c.found("chain", false, "the key of %s is blocked: it was reported as compromised", authority.Subject)
			c.decide(signetv1.Verdict_VERDICT_REVOKED, "the key of its issuer %s was reported as compromised", authority.Subject)
			continue
		}
		c.authority(ctx, authority)
	}
}

// authority checks the status of one CA certificate. A root is its own issuer: its list is not consulted, but what the
// ledger says about it counts, as it does for issuance.
func (c *check) authority(ctx context.Context, authority *x509.Certificate) {
	above, signed := signer(c.issuers, authority)
	serial, err := pki.SerialFromBig(authority.SerialNumber)
	if !signed || err != nil {
		return // another CA decides about it
	}
	root := bytes.Equal(authority.RawIssuer, authority.RawSubject)
	answer, err := c.api.config.Universe.Lookup(ctx, above.ID, serial)
	if err == nil && answer.Status != pki.StatusRevoked && (root || above.KeyURI == "" && c.offline(above, authority, serial)) {
		return
	}
	switch {
	case err == nil && answer.Status == pki.StatusRevoked && answer.Reason == pki.CertificateHold:
		c.found("chain", false, "%s is on hold since %s", authority.Subject, answer.RevokedAt.Format(time.RFC3339))
		c.decide(signetv1.Verdict_VERDICT_ON_HOLD, "its issuer %s is on hold since %s", authority.Subject, answer.RevokedAt.Format(time.RFC3339))
	case err == nil && answer.Status == pki.StatusRevoked:
		c.found("chain", false, "%s was revoked at %s for %s", authority.Subject, answer.RevokedAt.Format(time.RFC3339), answer.Reason)
		c.decide(signetv1.Verdict_VERDICT_REVOKED, "its issuer %s was revoked at %s", authority.Subject, answer.RevokedAt.Format(time.RFC3339))
	case err == nil && answer.Status == pki.StatusGood:
		c.found("chain", true, "%s is in force", authority.Subject)
	default:
		c.found("chain", false, "the status of %s cannot be determined now", authority.Subject)
		c.decide(signetv1.Verdict_VERDICT_CANNOT_TELL, "it cannot be determined now: see the evidence")
	}
}

// offline consults the list of an off-line issuer, the only record of what the issuer signed. A certificate that the
// ledger does not have as revoked, and that a current list does not name, is in force. offline reports whether the
// status could be determined.
func (c *check) offline(above ca.Issuer, authority *x509.Certificate, serial pki.Serial) bool {
	if c.api.config.CRLs == nil {
		return false
	}
	list := c.api.config.CRLs.OfflineStatus(above.ID, serial)
	switch {
	case list.Number == 0 || c.at.After(list.NextUpdate):
		c.found("chain", false, "issuer %s is off-line, and has no list in force", above.Label)
		return false
	case list.Revoked:
		c.found("chain", false, "%s is revoked, by list number %d of off-line issuer %s", authority.Subject, list.Number, above.Label)
		c.decide(signetv1.Verdict_VERDICT_REVOKED, "its issuer %s was revoked", authority.Subject)
		return true
	}
	c.found("chain", true, "%s is in force, by list number %d of off-line issuer %s", authority.Subject, list.Number, above.Label)
	return true
}

func (c *check) answer() *signetv1.CheckCertificateResponse {
	status, facts := statusTo(c.status)
	b := signetv1.CheckCertificateResponse_builder{
		Verdict:    &c.verdict,
		Summary:    &c.summary,
		Serial:     new(serialTo(c.certificate)),
		Status:     &status,
		Revocation: facts,
		Sequence:   &c.status.Seq,
		At:         timestamp(c.at),
		Evidence:   c.evidence,
	}
	if c.known {
		b.Issuer = new(c.issuer.ID.String())
	}
	for i, link := range append([]*x509.Certificate{c.certificate}, c.chain...) {
		if !c.known {
			break
		}
		fingerprint := sha256.Sum256(link.Raw)
		l := signetv1.ChainLink_builder{Subject: new(pki.NameText(link.RawSubject)), NotAfter: timestamp(link.NotAfter), Fingerprint: new(hex.EncodeToString(fingerprint[:]))}
		if i > 0 {
			l.Issuer = new(pki.HashSPKI(link.RawSubjectPublicKeyInfo).Issuer().String())
		}
		b.Chain = append(b.Chain, l.Build())
	}
	return b.Build()
}
