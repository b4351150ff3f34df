package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// CrossSign has a parent sign another issuer's name and key. The cross-certificate is served beside the issuer's own
// certificate and is not chosen. The grant must allow auth.ActionManage.
func (a *Authority) CrossSign(ctx context.Context, grant auth.Grant, subject, parent pki.IssuerID, lifetime time.Duration) (Issuer, error) {
	const op = "cross-sign issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	signed, err := a.issuers.find(subject)
	if err != nil {
		return Issuer{}, err
	}
	signing, err := a.issuers.find(parent)
	if err != nil {
		return Issuer{}, err
	}
	if subject == parent {
		return Issuer{}, pki.Errorf(pki.KindInvalid, op, "an issuer cannot cross-sign itself").InField("parent")
	}
	p, err := a.profileLike(signed, issuingProfile)
	if err != nil {
		return Issuer{}, err
	}
	life := Request{Lifetime: lifetime}
	if len(signed.Certificates) > 0 {
		if life, err = crossLife(lifetime, signed.end().Sub(a.config.Now())); err != nil {
			return Issuer{}, err
		}
	}
	return a.certify(ctx, grant, signed, signing, p, life, false)
}

// crossLife returns the lifetime of a cross-certificate: no longer than that of what it certifies, or a key would be
// trusted beyond its own end.
func crossLife(lifetime, left time.Duration) (Request, error) {
	if left <= 0 {
		return Request{}, refuse("issuer", "its own certificate has ended")
	}
	if lifetime > left {
		return Request{}, refuse("lifetime", "the certificate to be cross-signed itself ends in %s", days(left))
	}
	return Request{Lifetime: lifetime, AtMost: left}, nil
}

// end returns when the last certificate of an issuer ends.
func (i *Issuer) end() (last time.Time) {
	for _, c := range i.Certificates {
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return last
}

// RenewIssuer issues a new certificate with the same name, key and constraints, signed by the parent of the present one
// or, for a root, by itself, and chooses it. The parent must be an issuer here; if it is elsewhere, import the renewed
// certificate. The grant must allow auth.ActionManage.
func (a *Authority) RenewIssuer(ctx context.Context, grant auth.Grant, id pki.IssuerID, lifetime time.Duration) (Issuer, error) {
	const op = "renew issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	issuer, err := a.issuers.find(id)
	if err != nil {
		return Issuer{}, err
	}
	present := issuer.certificate()
	if present == nil {
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s has no certificate yet", issuer.Label).InField("issuer")
	}
	parent, name := issuer, rootProfile
	if len(present.Chain) > 0 {
		above, err := x509.ParseCertificate(present.Chain[0])
		if err != nil {
			return Issuer{}, pki.Errorf(pki.KindInternal, op, "%w", err)
		}
		if parent, err = a.owner(above); err != nil {
			return Issuer{}, err
		}
		name = issuingProfile
	}
	p, err := a.profileLike(issuer, name)
	if err != nil {
		return Issuer{}, err
	}
	return a.certify(ctx, grant, issuer, parent, p, Request{Lifetime: lifetime}, true)
}

// ChooseIssuerCertificate chooses which of an issuer's certificates chains and AIA show, by its SHA-256. The grant must
// allow auth.ActionManage.
func (a *Authority) ChooseIssuerCertificate(ctx context.Context, grant auth.Grant, id pki.IssuerID, fingerprint [sha256.Size]byte) (Issuer, error) {
	const op = "choose issuer certificate"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	issuer, err := a.issuers.find(id)
	if err != nil {
		return Issuer{}, err
	}
	for _, certificate := range issuer.Certificates {
		if sha256.Sum256(certificate.DER) == fingerprint {
			certificate.Chosen = true
			return a.addCertificate(ctx, grant, issuer, certificate, "")
		}
	}
	return Issuer{}, pki.Errorf(pki.KindNotFound, op, "issuer %s has no such certificate", issuer.Label).InField("fingerprint").
		WithHint("signet issuer show %s lists its certificates", issuer.Label)
}

// Adoption describes a CA that other software ran.
type Adoption struct {
	Label   string   // unique, for people
	KeyURI  string   // of a key that was imported into the key store; empty: it is off-line
	BaseURL string   // where its products will be served
	DER     []byte   // its certificate
	Chain   [][]byte // above it, nearest first, up to a self-signed root
}

// AdoptIssuer takes over a CA that other software ran: a key that was imported into the key store, its certificate and
// the chain above it. With an empty key URI the key is off-line, like that of a root made in a ceremony: what the CA
// signs is imported, and its certificate and lists are served. The certificates that a CA issued earlier are not
// recorded here, so it is marked as foreign: a serial number that does not decode may be one of its own. If its key is
// here, its lists are made from the ledger from now on, so its earlier revocations must be on the ledger: if it ever
// signed a list, call BeginAdoption, merge that list into the ledger, and then call FinishAdoption. The grant must
// allow auth.ActionManage.
func (a *Authority) AdoptIssuer(ctx context.Context, grant auth.Grant, adoption Adoption) (Issuer, error) {
	issuer, err := a.BeginAdoption(ctx, grant, adoption)
	if err != nil {
		return Issuer{}, err
	}
	return a.FinishAdoption(ctx, grant, issuer, adoption)
}

// BeginAdoption is the first half of AdoptIssuer: the issuer is pending, and nothing is signed or served for it. If an
// adoption with the same values has begun and not finished, its issuer is returned.
func (a *Authority) BeginAdoption(ctx context.Context, grant auth.Grant, adoption Adoption) (Issuer, error) {
	const op = "adopt issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	if err := checkLabelAndURL(op, adoption.Label, adoption.BaseURL); err != nil {
		return Issuer{}, err
	}
	certificate, err := a.importable(adoption.DER, adoption.Chain)
	if err != nil {
		return Issuer{}, err
	}
	keyURI := adoption.KeyURI
	hash := pki.HashSPKI(certificate.RawSubjectPublicKeyInfo)
	if keyURI != "" {
		key, err := a.config.Keys.Open(ctx, keyURI)
		if err != nil {
			return Issuer{}, err
		}
		if opened, err := pki.HashPublicKey(key.Public()); err != nil || opened != hash {
			return Issuer{}, refuse("key", "%s is not the key of this certificate", keyURI)
		}
		keyURI = key.URI
	}
	issuer := Issuer{
		ID: hash.Issuer(), Label: adoption.Label, KeyURI: keyURI, Subject: certificate.RawSubject, SPKI: certificate.RawSubjectPublicKeyInfo, KeyHash: hash,
		Foreign: true, BaseURL: adoption.BaseURL, CreatedAt: a.config.Now().UTC().Truncate(time.Microsecond),
	}
	if err := a.issuers.load(ctx); err != nil { // it may have begun at another instance
		return Issuer{}, err
	}
	if begun, err := a.issuers.find(issuer.ID); err == nil && begun.unfinished() && begun.Label == issuer.Label && begun.KeyURI == keyURI &&
		begun.BaseURL == issuer.BaseURL && bytes.Equal(begun.Subject, issuer.Subject) {
		return begun, nil
	}
	if err := a.config.Issuers.CreateIssuer(ctx, issuer, a.issuerEvent(grant, "issuer.adopt", issuer)); err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindConflict && e.Hint == "" {
			e.Hint = "look at what is there: signet issuer list"
		}
		return Issuer{}, err
	}
	return a.reloaded(ctx, issuer.ID)
}

// FinishAdoption is the second half of AdoptIssuer: the issuer gets its certificate and becomes active.
func (a *Authority) FinishAdoption(ctx context.Context, grant auth.Grant, issuer Issuer, adoption Adoption) (Issuer, error) {
	if err := a.mayManage("adopt issuer", grant); err != nil {
		return Issuer{}, err
	}
	certificate, err := a.importable(adoption.DER, adoption.Chain)
	if err != nil {
		return Issuer{}, err
	}
	return a.addCertificate(ctx, grant, issuer, IssuerCertificate{DER: adoption.DER, Chain: adoption.Chain, NotAfter: certificate.NotAfter, Chosen: true}, "")
}

// unfinished reports whether the issuer's adoption has begun and not finished: no other pending issuer ever signed
// elsewhere.
func (i *Issuer) unfinished() bool { return i.Foreign && i.State == IssuerPending }

// refuseUnfinished refuses to give a certificate to an issuer whose adoption is unfinished, except in FinishAdoption:
// its earlier revocations may not be on the ledger.
func refuseUnfinished(op, field string, issuer Issuer) error {
	if !issuer.unfinished() {
		return nil
	}
	return pki.Errorf(pki.KindFailedPrecondition, op, "the adoption of issuer %s is unfinished: its earlier revocations may not be here", issuer.Label).
		InField(field).WithHint("repeat it with the same values: signet issuer adopt")
}

// profileLike returns a built-in profile narrowed to the limits in an issuer's certificate or in its request.
func (a *Authority) profileLike(issuer Issuer, name string) (*profile.Profile, error) {
	p, err := a.config.Profiles.Get(name)
	if err != nil {
		return nil, err
	}
	if present := issuer.certificate(); present != nil {
		return likeCertificate(p, present.DER)
	}
	requested, err := issuer.requestedConstraints()
	if err != nil {
		return nil, err
	}
	if requested.PathLength < 0 {
		requested.PathLength = 0 // the default
	}
	copied := *p
	copied.CA = &requested
	return &copied, nil
}

// likeCertificate narrows a profile to the path length and the constraints of a CA's certificate. It refuses a
// certificate with limits that a profile cannot express.
func likeCertificate(p *profile.Profile, der []byte) (*profile.Profile, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	if err := CheckRepeatable(c); err != nil {
		return nil, err
	}
	limits, err := limitsOf(der)
	if err != nil {
		return nil, err
	}
	copied := *p
	copied.CA = &limits
	return &copied, nil
}

// IssuerImport is a certificate that another CA signed for an issuer here.
type IssuerImport struct {
	DER   []byte
	Chain [][]byte // above it, nearest first, up to a self-signed root
	Wider bool     // it may allow more than the issuer's request asks for, or its present certificate allows
}

// ImportIssuerCertificate takes a certificate that another CA signed for the name and key of an issuer here: of a
// pending issuer, renewed, or cross-signed. It refuses a certificate whose name or key belongs to no issuer, or to two,
// and one that allows longer paths or more names than were requested, unless the caller permits that. The grant must
// allow auth.ActionManage.
func (a *Authority) ImportIssuerCertificate(ctx context.Context, grant auth.Grant, imported IssuerImport) (Issuer, error) {
	const op = "import issuer certificate"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	certificate, err := a.importable(imported.DER, imported.Chain)
	if err != nil {
		return Issuer{}, err
	}
	issuer, err := a.owner(certificate)
	if err != nil {
		return Issuer{}, err
	}
	for _, known := range issuer.Certificates {
		if bytes.Equal(known.DER, imported.DER) {
			return issuer, nil
		}
	}
	if err := refuseUnfinished(op, "certificate", issuer); err != nil {
		return Issuer{}, err
	}
	more, err := issuer.wider(imported.DER)
	if err != nil {
		return Issuer{}, err
	}
	if more != "" && !imported.Wider {
		return Issuer{}, refuse("certificate", "%s", more).WithHint("have it signed as its request asks, or accept it as it is: signet issuer import --wider")
	}
	chosen := issuer.State == IssuerPending
	added := IssuerCertificate{DER: imported.DER, Chain: imported.Chain, NotAfter: certificate.NotAfter, Chosen: chosen}
	return a.addCertificate(ctx, grant, issuer, added, more)
}

// importable is checkImport for a certificate that takes effect now.
func (a *Authority) importable(der []byte, chain [][]byte) (*x509.Certificate, error) {
	certificate, err := checkImport(der, chain, a.config.WeakKeys)
	if err == nil && a.config.Now().After(certificate.NotAfter) {
		return nil, refuse("certificate", "it ended at %s", certificate.NotAfter.Format(time.RFC3339)).WithHint("have a new one signed for the same key")
	}
	return certificate, err
}

// checkImport checks that a certificate is a CA's and that its chain verifies, and refuses keys in it that are publicly
// known.
func checkImport(der []byte, chain [][]byte, weak policy.WeakKeys) (*x509.Certificate, error) {
	const op = "import issuer certificate"
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("certificate")
	}
	if !certificate.IsCA || certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, pki.Errorf(pki.KindRefused, op, "it is not the certificate of a CA").InField("certificate").
			WithHint("give the certificate that the parent signed for the issuer's request")
	}
	if certificate.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, refuse("certificate", "its key may not sign CRLs (keyUsage without cRLSign): verifiers would refuse its lists (RFC 5280, Section 6.3.3 (f))").
			WithHint("have it signed with cRLSign beside keyCertSign")
	}
	if err := checkAuthority("certificate", certificate, weak); err != nil {
		return nil, err
	}
	below := certificate
	for i, der := range chain {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "certificate %d: %w", i, err).InField("chain")
		}
		if err := below.CheckSignatureFrom(above); err != nil || !bytes.Equal(below.RawIssuer, above.RawSubject) {
			return nil, refuse("chain", "certificate %d did not sign the one before it", i)
		}
		if err := checkAuthority("chain", above, weak); err != nil {
			return nil, err
		}
		below = above
	}
	if err := below.CheckSignatureFrom(below); err != nil {
		return nil, refuse("chain", "it does not end in a self-signed root").WithHint("append the certificates up to the root, nearest first")
	}
	return certificate, nil
}

// checkAuthority refuses restrictions on certificates below that Signet does not enforce: it would issue certificates
// that verifiers refuse. It also applies policy.CheckKey to the key of the CA.
func checkAuthority(field string, c *x509.Certificate, weak policy.WeakKeys) error {
	if what := foreignConstraint(c); what != "" && c.PermittedDNSDomainsCritical {
		return refuse(field, "%s has critical name constraints that Signet does not enforce: on %s", c.Subject, what)
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return refuse(field, "%s has a critical extension that Signet does not enforce: %s", c.Subject, c.UnhandledCriticalExtensions[0])
	}
	err := policy.CheckKey(c.PublicKey, weak)
	if e, ok := errors.AsType[*pki.Error](err); ok {
		return e.InField(field)
	}
	return err
}

// owner returns the issuer that has both the name and the key of a certificate.
func (a *Authority) owner(certificate *x509.Certificate) (Issuer, error) {
	const op = "import issuer certificate"
	hash := pki.HashSPKI(certificate.RawSubjectPublicKeyInfo)
	for _, issuer := range a.issuers.list() {
		name, key := bytes.Equal(issuer.Subject, certificate.RawSubject), issuer.KeyHash == hash
		switch {
		case name && key:
			return issuer, nil
		case name:
			return Issuer{}, refuse("certificate", "issuer %s has this name with another key", issuer.Label).WithHint("a new key needs a new name")
		case key:
			return Issuer{}, refuse("certificate", "issuer %s has this key under another name", issuer.Label)
		}
	}
	return Issuer{}, pki.Errorf(pki.KindNotFound, op, "no issuer here has this name and key").InField("certificate").
		WithHint("make the issuer first: signet issuer create --offline")
}
