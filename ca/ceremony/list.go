package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// Revocation names a certificate to be revoked, for good. It has either Serial or Certificate.
type Revocation struct {
	Serial      pki.Serial // of a certificate that an earlier ceremony signed
	Certificate Input      // any certificate that the authority signed
	Reason      pki.Reason // not certificateHold or removeFromCRL
}

// ListRequest describes a CRL.
type ListRequest struct {
	Revoke   []Revocation
	Validity time.Duration // until nextUpdate, 1 to 732 days; zero: 365 days
	AtLeast  uint64        // lower bound of its number; zero: one more than the last
}

// The bounds of a CRL's validity. An off-line authority signs rarely, and could not keep up with less than a day.
const (
	listValidity    = 365 * 24 * time.Hour
	minListValidity = 24 * time.Hour
	maxListValidity = 2 * 366 * 24 * time.Hour
)

// List signs the authority's complete CRL.
func (c *Ceremony) List(ctx context.Context, request ListRequest) (*Result, error) {
	const op = "sign revocation list"
	if request.Validity == 0 {
		request.Validity = listValidity
	}
	if request.Validity < minListValidity || request.Validity > maxListValidity {
		return nil, pki.Errorf(pki.KindInvalid, op, "want 1 to 732 days").InField("--next-update")
	}
	return c.hold("crl", "The list of revoked certificates of the authority is signed.", func(r *Result) error {
		root, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := c.revokeUnfinished(); err != nil {
			return err
		}
		for _, revocation := range request.Revoke {
			if err := c.revoke(revocation, root.certificate); err != nil {
				return err
			}
		}
		return c.signList(r, request, root)
	})
}

// revokeUnfinished revokes certificates that were about to be signed when a ceremony broke off, because a signature
// may exist.
func (c *Ceremony) revokeUnfinished() error {
	for _, i := range c.state.Issued {
		if i.SHA256 != "" || c.revocation(i.Serial) != nil {
			continue
		}
		const why = "A ceremony broke off when this certificate was about to be signed: it may have been signed."
		if err := c.enter(i, pki.Unspecified, why); err != nil {
			return err
		}
	}
	return nil
}

// revoke revokes one certificate.
func (c *Ceremony) revoke(v Revocation, root *x509.Certificate) error {
	const op = "revoke certificate"
	meant, err := c.identify(v, root)
	if err != nil {
		return err
	}
	switch v.Reason {
	case pki.CertificateHold, pki.RemoveFromCRL:
		return pki.Errorf(pki.KindInvalid, op, "%s: an authority is revoked for good or not at all", v.Reason).InField("--revoke")
	}
	if before := c.revocation(meant.Serial); before != nil {
		return pki.Errorf(pki.KindConflict, op, "%s is revoked already, since %s for %s", meant.Serial, on(before.At), before.Reason).InField("--revoke")
	}
	return c.enter(meant, v.Reason, "This certificate is revoked.")
}

// identify returns the certificate to be revoked, and checks that the authority signed it.
func (c *Ceremony) identify(v Revocation, root *x509.Certificate) (issued, error) {
	const op = "revoke certificate"
	if v.Certificate.Data == nil {
		known := c.state.find(v.Serial.String())
		if known == nil {
			return issued{}, pki.Errorf(pki.KindNotFound, op, "no ceremony in this directory signed a certificate with serial %s", v.Serial).
				InField("--revoke").WithHint("give the certificate itself: --revoke FILE=REASON")
		}
		return *known, nil
	}
	der, err := v.Certificate.decode(TypeCertificate)
	if err != nil {
		return issued{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return issued{}, pki.Errorf(pki.KindInvalid, op, "%s: %w", v.Certificate.Name, err).InField("--revoke")
	}
	if !bytes.Equal(certificate.RawIssuer, root.RawSubject) || certificate.CheckSignatureFrom(root) != nil {
		return issued{}, pki.Errorf(pki.KindRefused, op, "%s was not signed by this authority", v.Certificate.Name).InField("--revoke")
	}
	if bytes.Equal(certificate.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) && bytes.Equal(certificate.RawSubject, root.RawSubject) {
		return issued{}, pki.Errorf(pki.KindRefused, op, "a root cannot revoke itself: a thief of its key could undo that").InField("--revoke").
			WithHint("have it removed wherever it is trusted")
	}
	number, err := pki.SerialFromBig(certificate.SerialNumber)
	if err != nil {
		return issued{}, pki.Errorf(pki.KindInvalid, op, "%s: %w", v.Certificate.Name, err).InField("--revoke")
	}
	key, err := pki.HashPublicKey(certificate.PublicKey)
	if err != nil {
		return issued{}, pki.Errorf(pki.KindInvalid, op, "%s: %w", v.Certificate.Name, err).InField("--revoke")
	}
	return issued{Serial: number.String(), Subject: pki.NameText(certificate.RawSubject), Key: key.String()}, nil
}

// revocation returns the revocation of a serial number by this ceremony or an earlier one, or nil if there is none.
func (c *Ceremony) revocation(serial string) *revoked {
	for _, r := range slices.Concat(c.state.Revoked, c.pending) {
		if r.Serial == serial {
			return &r
		}
	}
	return nil
}

// enter adds a certificate to those that this ceremony revokes, and records it.
func (c *Ceremony) enter(certificate issued, reason pki.Reason, text string) error {
	at := c.config.Now().UTC().Truncate(time.Second)
	c.pending = append(c.pending, revoked{Serial: certificate.Serial, Key: certificate.Key, At: at, Reason: reason.String(), Record: c.name})
	return c.record.add(StepRevoke, text, func(s *Step) {
		s.Facts = []Fact{{"serial", certificate.Serial}, {"subject", certificate.Subject}, {"reason", reason.String()}, {"since", on(at)}}
	})
}

// entries returns everything that was ever revoked, in order, with the count and the digest of the entries.
func (c *Ceremony) entries() (crl.Entries, int, *crl.Digest, error) {
	arena := &crl.Arena{}
	all := slices.Concat(c.state.Revoked, c.pending)
	for i, r := range all {
		serial, err := pki.ParseSerial(r.Serial)
		if err != nil {
			return nil, 0, nil, pki.Errorf(pki.KindInvalid, "read ceremony state", "%w", err)
		}
		reason, err := pki.ParseReason(r.Reason)
		if err != nil {
			return nil, 0, nil, pki.Errorf(pki.KindInvalid, "read ceremony state", "%w", err)
		}
		arena.Add(uint64(i+1), crl.Revocation{Serial: serial, At: r.At, Reason: reason})
	}
	entries, count := arena.At(uint64(len(all)))
	digest := arena.Digest()
	return entries, count, &digest, nil
}

// draft is a CRL before it is signed.
type draft struct {
	template crl.Template
	entries  crl.Entries
	want     crl.Want
	tbs      []byte
}

func (c *Ceremony) signList(r *Result, request ListRequest, root *signer) error {
	d, err := c.draftList(request, root)
	if err != nil {
		return err
	}
	number := strconv.FormatUint(d.template.Number, 10)
	if err := c.record.add(StepProposal, "These octets will be signed.", func(s *Step) {
		s.Facts = []Fact{
			{"issuer", pki.NameText(root.certificate.RawSubject)}, {"number", number}, {"this update", on(d.template.ThisUpdate)},
			{"next update", on(d.template.NextUpdate)}, {"revoked", strconv.Itoa(d.want.Count)}, {"sha256", sum(d.tbs)},
		}
		s.Attached = []Octets{octets("to be signed", TypeTBSCertList, d.tbs)}
	}); err != nil {
		return err
	}
	if err := c.judgeList(d, root.key); err != nil {
		return err
	}
	if err := c.confirm(fmt.Sprintf("Sign list number %s with %d revoked certificates, until %s? The octets have the SHA-256 %s.",
		number, d.want.Count, d.template.NextUpdate.Format(time.DateOnly), sum(d.tbs))); err != nil || c.config.Rehearse {
		return err
	}
	// From here on the number counts as used, and the revocations are final, whatever happens.
	c.state.CRLNumber, c.state.Revoked, c.pending = d.template.Number, slices.Concat(c.state.Revoked, c.pending), nil
	if err := c.state.save(); err != nil {
		return err
	}
	if err := c.record.add(StepReserve, "The list number, and what is revoked, was written down before it is used.", func(s *Step) {
		s.Facts = []Fact{{"number", number}}
	}); err != nil {
		return err
	}
	document, _, err := d.template.Sign(d.entries, root.key)
	if err != nil {
		return pki.Errorf(pki.KindUnavailable, "sign revocation list", "%w", err)
	}
	der := document.Bytes()
	if err := c.record.add(StepSign, "The list was signed.", func(s *Step) {
		s.Facts = []Fact{{"sha256", sum(der)}, {"number", number}}
		s.Attached = []Octets{octets("list", TypeCRL, der)}
	}); err != nil {
		return err
	}
	if _, err := crl.Check(document, d.want); err != nil {
		return pki.Errorf(pki.KindInternal, "check what was signed", "%w", err)
	}
	if err := checkList(der, d.tbs, root.certificate); err != nil {
		return pki.Errorf(pki.KindInternal, "check what was signed", "%w", err)
	}
	if err := c.record.add(StepCheck, "Read again, by two readers: it holds the octets above, and its signature verifies.", func(s *Step) {
		s.Facts = []Fact{{"sha256", sum(der)}}
	}); err != nil {
		return err
	}
	r.Fingerprint, r.Number, r.NotAfter = sum(der), d.template.Number, d.template.NextUpdate
	return c.write(r, ".crl", der)
}

// draftList makes the octets to be signed. nextUpdate is at most the end of the root.
func (c *Ceremony) draftList(request ListRequest, root *signer) (*draft, error) {
	entries, count, digest, err := c.entries()
	if err != nil {
		return nil, err
	}
	now := c.config.Now().UTC().Truncate(time.Second)
	next := now.Add(request.Validity)
	if next.After(root.certificate.NotAfter) {
		next = root.certificate.NotAfter
	}
	d := &draft{entries: entries, template: crl.Template{
		Issuer: root.certificate.RawSubject, KeyID: root.certificate.SubjectKeyId,
		Number: max(c.state.CRLNumber+1, request.AtLeast), ThisUpdate: now, NextUpdate: next,
	}}
	d.want = crl.Want{Template: d.template, Key: root.key.Public(), Previous: c.state.CRLNumber, Count: count, Digest: digest, Now: now}
	algorithm, err := crl.AlgorithmFor(root.key.Public())
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "sign revocation list", "%w", err).InField("key")
	}
	unsigned, err := d.template.Unsigned(entries, algorithm)
	if err != nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, "sign revocation list", "%w", err)
	}
	d.tbs = unsigned.Bytes()
	return d, nil
}

// judgeList applies the rules of packages crl and lint, records the verdicts, and refuses the CRL if any rule fails.
func (c *Ceremony) judgeList(d *draft, key *keys.Key) error {
	const op = "lint revocation list"
	algorithm, err := crl.AlgorithmFor(key.Public())
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	verdicts, err := crl.Verdicts(&d.template, d.entries, algorithm, d.want)
	if err != nil {
		return pki.Errorf(pki.KindRefused, op, "%w", err)
	}
	var own []Rule
	for _, v := range verdicts {
		if v.Err != nil {
			return pki.Errorf(pki.KindRefused, op, "%s: %w", v.Rule, v.Err)
		}
		own = append(own, Rule{Rule: "signet_crl_" + v.Rule, Citation: "docs/REVOCATION.md", Outcome: string(lint.Passed)})
	}
	report, err := lint.RevocationList(d.tbs, []byte(algorithm))
	if err != nil {
		return err
	}
	if err := c.sayRules(report, own); err != nil {
		return err
	}
	for _, v := range report {
		if v.Outcome == lint.Failed {
			return pki.Errorf(pki.KindRefused, op, "%s (%s): %s", v.Lint, v.Citation, v.Details)
		}
	}
	return nil
}

// checkList checks, with the standard library, that a CRL holds the octets that were shown and that its signature
// verifies.
func checkList(der, tbs []byte, issuer *x509.Certificate) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if !bytes.Equal(list.RawTBSRevocationList, tbs) {
		return errors.New("what was signed is not what was shown")
	}
	return list.CheckSignatureFrom(issuer)
}
