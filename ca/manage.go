package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// NewIssuer describes an issuer to make, with a new key.
type NewIssuer struct {
	Label      string         // required: lower-case letters, digits, dots and hyphens; also names the key
	Subject    Subject        // CommonName is required; a new key needs a new name, such as "Example CA 2"
	Algorithm  keys.Algorithm // zero: ECDSA P-256
	Visibility Visibility
	BaseURL    string        // required: "http://pki.example", where CRLs, OCSP and certificates of this issuer are served
	Lifetime   time.Duration // zero: 20 years for a root, 10 for others; with Offline its parent decides
	Parent     pki.IssuerID  // zero: a root, signed by its own key
	Offline    bool          // the parent is elsewhere: make a CSR that asks for all of this except Lifetime, and wait for ImportIssuerCertificate
	PathLength *int          // CAs allowed below it; nil: any number for a root, 0 for others
	Succeeds   pki.IssuerID  // the predecessor: while it issues, requests that name no issuer stay with it; zero: none
	Permitted  profile.SubtreesConfig
	Excluded   profile.SubtreesConfig
}

const (
	rootProfile    = "root-ca"
	issuingProfile = "issuing-ca"
)

// CreateIssuer makes a key and an issuer. The grant must allow auth.ActionManage. A refusal leaves no key behind. If a
// call breaks off after the key was made, the same call continues it.
func (a *Authority) CreateIssuer(ctx context.Context, grant auth.Grant, n NewIssuer) (Issuer, error) {
	const op = "create issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	if n.Offline && n.Lifetime != 0 {
		return Issuer{}, pki.Errorf(pki.KindInvalid, op, "the parent that signs its request decides the lifetime").InField("lifetime").
			WithHint("leave it out, and give it to the parent: signet ceremony sign --lifetime")
	}
	if err := a.issuers.load(ctx); err != nil { // another instance may have taken the label or the name
		return Issuer{}, err
	}
	p, err := issuerProfile(a.config.Profiles, &n, a.issuers.list())
	if err != nil {
		return Issuer{}, err
	}
	name, err := subjectFor(p, n.Subject, nil)
	if err != nil {
		return Issuer{}, err
	}
	if n.Offline {
		err = policy.CheckSubtrees(nil, p.CA)
	} else {
		err = a.rehearse(ctx, n, p, name)
	}
	if err != nil { // before there is a key, and a name that is taken
		return Issuer{}, a.refused(ctx, grant.Principal(), Request{Profile: p.Name}, err)
	}
	issuer, err := a.pendingIssuer(ctx, grant, n, name, requestedConstraints(n, p))
	if err != nil {
		return Issuer{}, err
	}
	if n.Offline {
		return issuer, nil
	}
	parent := issuer
	if !n.Parent.IsZero() {
		if parent, err = a.issuers.find(n.Parent); err != nil {
			return Issuer{}, err
		}
	}
	return a.certify(ctx, grant, issuer, parent, p, Request{Lifetime: n.Lifetime}, true)
}

// rehearse checks everything about the certificate of a new issuer that can be checked before its key is made. A
// throw-away key stands in for it.
func (a *Authority) rehearse(ctx context.Context, n NewIssuer, p *profile.Profile, name subject) error {
	signer, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		return pki.Errorf(pki.KindInternal, "create issuer", "%w", err)
	}
	o := order{
		Request: Request{Lifetime: n.Lifetime}, profile: p, csr: &x509.CertificateRequest{PublicKey: signer.Public()},
		subject: name.der, self: n.Parent.IsZero(),
	}
	if o.self {
		o.issuer, err = newRoot(&keys.Key{Signer: signer}, n, name)
	} else {
		var parent Issuer
		if parent, err = a.issuers.find(n.Parent); err != nil {
			return err
		}
		o.issuer, _, err = a.engage(ctx, parent, p)
	}
	if err != nil {
		return err
	}
	d, err := newDraft(o, a.config.Now())
	if err != nil {
		return err
	}
	if err := d.check(o.self, nil); err != nil {
		return err
	}
	return a.lintTrial(o, d)
}

// newRoot returns a root that has a key and is about to sign its own certificate.
func newRoot(key *keys.Key, n NewIssuer, name subject) (*issuerKey, error) {
	spki, _, err := splitSPKI(key.Public())
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "make root", "%w", err).InField("key")
	}
	hash := pki.HashSPKI(spki)
	return newIssuerKey(Issuer{ID: hash.Issuer(), Label: n.Label, Subject: name.der, SPKI: spki, KeyHash: hash, BaseURL: n.BaseURL}, key)
}

// SetIssuerState disables, enables or retires an issuer. Its status information is served in every state. The grant
// must allow auth.ActionManage.
func (a *Authority) SetIssuerState(ctx context.Context, grant auth.Grant, id pki.IssuerID, state IssuerState) (Issuer, error) {
	const op = "change issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	issuer, err := a.issuers.find(id)
	if err != nil {
		return Issuer{}, err
	}
	if issuer.State == IssuerPending || issuer.State == IssuerRetired || state == IssuerPending {
		err := pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s is %s and cannot become %s", issuer.Label, issuer.State, state).InField("state")
		if issuer.State == IssuerPending {
			err = err.WithHint("import its certificate (signet issuer import), or give it up: signet issuer delete %s", issuer.Label)
		}
		return Issuer{}, err
	}
	event := a.issuerEvent(grant, "issuer."+state.String(), issuer)
	if err := a.config.Issuers.SetIssuerState(ctx, id, state, event); err != nil {
		return Issuer{}, err
	}
	return a.reloaded(ctx, id)
}

// UpdateIssuer changes the base URL of an issuer, the issuer that it succeeds, or both. Certificates keep the URLs that
// they were issued with, and so does the rest of an open range of serial numbers. What the issuer's own certificate
// allows does not change either. The grant must allow auth.ActionManage.
func (a *Authority) UpdateIssuer(ctx context.Context, grant auth.Grant, id pki.IssuerID, change IssuerChange) (Issuer, error) {
	const op = "update issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	if err := a.issuers.load(ctx); err != nil { // another instance may have made the one that it succeeds
		return Issuer{}, err
	}
	issuer, err := a.issuers.find(id)
	if err != nil {
		return Issuer{}, err
	}
	event := a.issuerEvent(grant, "issuer.update", issuer)
	if change.BaseURL == nil && change.Succeeds == nil {
		return Issuer{}, pki.Errorf(pki.KindInvalid, op, "no change was given").InField("base_url")
	}
	if change.BaseURL != nil {
		if err := checkBaseURL(op, *change.BaseURL); err != nil {
			return Issuer{}, err
		}
		event.Detail["base_url"], event.Detail["base_url_before"] = *change.BaseURL, issuer.BaseURL
	}
	if change.Succeeds != nil {
		if err := a.maySucceed(op, *change.Succeeds); err != nil {
			return Issuer{}, err
		}
		event.Detail["succeeds"], event.Detail["succeeds_before"] = idOrNone(*change.Succeeds), idOrNone(issuer.Succeeds)
	}
	if err := a.config.Issuers.UpdateIssuer(ctx, id, change, event); err != nil {
		return Issuer{}, err
	}
	return a.reloaded(ctx, id)
}

// DeleteIssuer deletes an issuer that waits for its first certificate, and returns it as it was. Its key stays in the
// key store, and no issuer is made with it again, because its CSR may yet be signed. The grant must allow
// auth.ActionManage.
func (a *Authority) DeleteIssuer(ctx context.Context, grant auth.Grant, id pki.IssuerID) (Issuer, error) {
	const op = "delete issuer"
	if err := a.mayManage(op, grant); err != nil {
		return Issuer{}, err
	}
	if err := a.issuers.load(ctx); err != nil { // another instance may have made it
		return Issuer{}, err
	}
	issuer, err := a.issuers.find(id)
	if err != nil {
		return Issuer{}, err
	}
	if issuer.State != IssuerPending {
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s has a certificate, so its status must remain available", issuer.Label).
			InField("issuer").WithHint("retire it: signet issuer state %s retired", issuer.Label)
	}
	if err := refuseUnfinished(op, "issuer", issuer); err != nil {
		return Issuer{}, err
	}
	if i := slices.IndexFunc(a.issuers.list(), func(other Issuer) bool { return other.Succeeds == id }); i >= 0 {
		successor := a.issuers.list()[i].Label
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "issuer %s succeeds it", successor).InField("issuer").
			WithHint("signet issuer update %s --succeeds-nobody, or --succeeds another", successor)
	}
	event := a.issuerEvent(grant, "issuer.delete", issuer)
	event.Detail["key_uri"] = issuer.KeyURI
	if err := a.config.Issuers.DeleteIssuer(ctx, id, event); err != nil {
		return Issuer{}, err
	}
	if err := a.issuers.load(ctx); err != nil {
		return Issuer{}, err
	}
	a.changed(ctx)
	return issuer, nil
}

// maySucceed refuses an issuer that cannot be succeeded.
func (a *Authority) maySucceed(op string, before pki.IssuerID) error {
	if before.IsZero() {
		return nil
	}
	if _, err := a.issuers.find(before); err != nil {
		return pki.Errorf(pki.KindNotFound, op, "there is no issuer %s to succeed", before).InField("succeeds")
	}
	return nil
}

func idOrNone(id pki.IssuerID) string {
	if id.IsZero() {
		return "nobody"
	}
	return id.String()
}

// IssuerSigner returns the certificate and key of an issuer, for signing CRLs. It opens the key when it is first
// needed, and waits for it.
func (a *Authority) IssuerSigner(ctx context.Context, id pki.IssuerID) (*x509.Certificate, crypto.Signer, error) {
	issuer, err := a.issuers.find(id)
	if err != nil {
		return nil, nil, err
	}
	key, err := a.issuers.open(ctx, issuer)
	if err != nil {
		return nil, nil, err
	}
	if key.certificate == nil {
		return nil, nil, pki.Errorf(pki.KindFailedPrecondition, "open issuer", "issuer %s has no certificate yet", issuer.Label).InField("issuer")
	}
	return key.certificate, key.key.For(keys.ForCRL), nil
}

// ReadySigner returns the key of IssuerSigner if it is open. It does not block: a key that is not open is opened in the
// background, and meanwhile the error is of KindUnavailable.
func (a *Authority) ReadySigner(ctx context.Context, id pki.IssuerID) (crypto.Signer, error) {
	issuer, err := a.issuers.find(id)
	if err != nil {
		return nil, err
	}
	key, err := a.issuers.ready(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return key.key.For(keys.ForCRL), nil
}

func (a *Authority) mayManage(op string, grant auth.Grant) error {
	if !grant.Allows(auth.ActionManage, "") {
		return pki.Errorf(pki.KindDenied, op, "%s may not manage issuers", grant.Principal().ID)
	}
	return nil
}

// issuerProfile narrows the built-in profile to what was requested. known are the existing issuers.
func issuerProfile(profiles *profile.Set, n *NewIssuer, known []Issuer) (*profile.Profile, error) {
	const op = "create issuer"
	if err := checkLabelAndURL(op, n.Label, n.BaseURL); err != nil {
		return nil, err
	}
	if n.Algorithm == keys.NoAlgorithm {
		n.Algorithm = keys.ECDSAP256
	}
	name, length := rootProfile, -1
	if !n.Parent.IsZero() || n.Offline {
		name, length = issuingProfile, 0
	}
	if n.PathLength != nil {
		length = *n.PathLength
		if length < 0 || length > 16 {
			return nil, pki.Errorf(pki.KindInvalid, op, "want 0 to 16").InField("path_length")
		}
	}
	p, err := profiles.Get(name)
	if err != nil {
		return nil, err
	}
	copied := *p
	copied.CA = &profile.CA{PathLength: length}
	if before, err := findIn(known, n.Succeeds); err == nil && before.certificate() != nil {
		// A NewIssuer does not specify usages and policies: a successor has those of its predecessor.
		limits, err := policiesOf(before.certificate().DER)
		if err != nil {
			return nil, err
		}
		copied.CA.Usages, copied.CA.Policies = limits.Usages, limits.Policies
	}
	if like, ok := sameConstraints(n, known); ok {
		copied.CA.Permitted, copied.CA.Excluded = like.Permitted, like.Excluded
		return &copied, nil
	}
	for _, side := range []struct {
		config profile.SubtreesConfig
		dst    *profile.Subtrees
		field  string
	}{{n.Permitted, &copied.CA.Permitted, "permitted"}, {n.Excluded, &copied.CA.Excluded, "excluded"}} {
		if *side.dst, _, err = profile.ParseSubtrees(side.config); err != nil {
			return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Field: side.field, Err: err}
		}
	}
	return &copied, nil
}

// policiesOf is limitsOf for a successor that specifies its own names. It refuses whatever else it would have to leave
// out.
func policiesOf(der []byte) (profile.CA, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return profile.CA{}, pki.Errorf(pki.KindInternal, "read issuer", "%w", err)
	}
	if err := repeatablePolicies(c); err != nil {
		return profile.CA{}, err
	}
	return limitsOf(der)
}

// sameConstraints returns the requested name constraints as an existing issuer has them. A successor gets them
// unchanged, even if other software wrote them in a form that profile.ParseSubtrees would not accept.
func sameConstraints(n *NewIssuer, known []Issuer) (policy.Constraints, bool) {
	for _, issuer := range known {
		present := issuer.certificate()
		if present == nil {
			continue
		}
		own, err := constraintsOf([][]byte{present.DER})
		if err != nil {
			continue // it cannot be like that one
		}
		for _, c := range own {
			if saidAs(c.Permitted, n.Permitted) && saidAs(c.Excluded, n.Excluded) {
				return c, true
			}
		}
	}
	return policy.Constraints{}, false
}

func saidAs(s profile.Subtrees, said profile.SubtreesConfig) bool {
	return slices.Equal(s.DNS, said.DNS) && slices.Equal(s.Email, said.Email) && slices.Equal(s.URI, said.URI) &&
		slices.EqualFunc(s.IP, said.IP, func(p netip.Prefix, text string) bool { return p.String() == text })
}

func checkLabelAndURL(op, label, baseURL string) error {
	if err := keys.CheckName(op, label); err != nil {
		return err
	}
	return checkBaseURL(op, baseURL)
}

// checkBaseURL accepts only plain http: what is fetched there is signed, and checking the TLS certificate of a
// responder would need the answer that the responder is about to give (RFC 5280, Section 8).
func checkBaseURL(op, baseURL string) error {
	base, err := url.Parse(baseURL)
	if err == nil && base.Scheme == "https" {
		return pki.Errorf(pki.KindInvalid, op, "%.100q: must be http, not https: a client would need to check the certificate of this very URL "+
			"to fetch the answer; CRLs and OCSP responses are signed", baseURL).InField("base_url").
			WithHint("use http://...; to take the URL over from an existing issuer, change that first: signet issuer update LABEL --base-url http://...")
	}
	if err != nil || base.Scheme != "http" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" ||
		base.User != nil || strings.HasSuffix(baseURL, "/") {
		return pki.Errorf(pki.KindInvalid, op, "%.100q: want something like http://pki.example, without a slash at the end", baseURL).InField("base_url")
	}
	return nil
}

// pendingIssuer makes the key and the record, or finds those of a call that broke off. The CSR asks for the requested
// constraints.
func (a *Authority) pendingIssuer(ctx context.Context, grant auth.Grant, n NewIssuer, name subject, requested profile.CA) (Issuer, error) {
	const op = "create issuer"
	for _, known := range a.issuers.list() {
		if known.Label == n.Label && known.State == IssuerPending && !known.Foreign && bytes.Equal(known.Subject, name.der) {
			if known.Succeeds != n.Succeeds {
				return Issuer{}, pki.Errorf(pki.KindConflict, op, "issuer %s was begun with another predecessor", n.Label).InField("succeeds").
					WithHint("signet issuer show %s names it: give the same one, or change it: signet issuer update %s --succeeds", n.Label, n.Label)
			}
			return known, sameRequested(n, known, requested)
		}
		if known.Label == n.Label {
			return Issuer{}, pki.Errorf(pki.KindConflict, op, "there is an issuer %s already", n.Label).InField("label")
		}
		if bytes.Equal(known.Subject, name.der) {
			return Issuer{}, pki.Errorf(pki.KindConflict, op, "issuer %s has this name already", known.Label).InField("subject").
				WithHint("a new key needs a new name: add a number to the common name")
		}
	}
	if err := a.maySucceed(op, n.Succeeds); err != nil {
		return Issuer{}, err
	}
	key, err := a.issuerKeyFor(ctx, n)
	if err != nil {
		return Issuer{}, err
	}
	spki, _, err := splitSPKI(key.Public())
	if err != nil {
		return Issuer{}, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	extensions, err := caExtensions(&requested)
	if err != nil {
		return Issuer{}, pki.Errorf(pki.KindInternal, op, "make request: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: name.der, ExtraExtensions: extensions}, key.Signer)
	if err != nil {
		return Issuer{}, pki.Errorf(pki.KindInternal, op, "make request: %w", err)
	}
	hash := pki.HashSPKI(spki)
	issuer := Issuer{
		ID: hash.Issuer(), Label: n.Label, KeyURI: key.URI, Subject: name.der, SPKI: spki, KeyHash: hash, Visibility: n.Visibility,
		BaseURL: n.BaseURL, CSR: csr, Succeeds: n.Succeeds, CreatedAt: a.config.Now().UTC().Truncate(time.Microsecond),
	}
	event := a.issuerEvent(grant, "issuer.create", issuer)
	if !issuer.Succeeds.IsZero() {
		event.Detail["succeeds"] = issuer.Succeeds.String()
	}
	err = a.config.Issuers.CreateIssuer(ctx, issuer, event)
	if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindConflict && e.Field == "key" {
		return Issuer{}, e.WithHint("remove %s from the key store, or choose another label", key.URI)
	}
	if err != nil {
		return Issuer{}, err
	}
	return a.reloaded(ctx, issuer.ID)
}

// sameRequested refuses to continue an earlier call whose CSR asks for something else, because the parent may already
// have that CSR.
func sameRequested(n NewIssuer, begun Issuer, requested profile.CA) error {
	if !n.Offline {
		return nil // its parent is here and has not signed yet
	}
	before, err := begun.requestedConstraints()
	if err != nil {
		return err
	}
	if policy.Wider(&before, &requested) == "" && policy.Wider(&requested, &before) == "" {
		return nil
	}
	return pki.Errorf(pki.KindConflict, "create issuer", "issuer %s was begun with another path length or other names", n.Label).InField("label").
		WithHint("give the same again, or choose another label and name")
}

// issuerKeyFor makes the key, or opens that of a call that broke off.
func (a *Authority) issuerKeyFor(ctx context.Context, n NewIssuer) (*keys.Key, error) {
	key, err := a.config.Keys.Create(ctx, n.Label, n.Algorithm)
	if pki.KindOf(err) != pki.KindConflict {
		return key, err
	}
	key, openErr := a.config.Keys.Open(ctx, a.config.Keys.URI(n.Label))
	if openErr != nil || keys.AlgorithmOf(key.Public()) != n.Algorithm {
		return nil, err
	}
	hash, hashErr := pki.HashPublicKey(key.Public())
	if hashErr != nil || slices.ContainsFunc(a.issuers.list(), func(i Issuer) bool { return i.KeyHash == hash }) {
		return nil, err
	}
	return key, nil
}

// certify has the parent sign the issuer's key, through the pipeline like every certificate.
func (a *Authority) certify(ctx context.Context, grant auth.Grant, issuer, parent Issuer, p *profile.Profile, life Request, chosen bool) (Issuer, error) {
	if err := refuseUnfinished("certify issuer", "issuer", issuer); err != nil {
		return Issuer{}, err
	}
	signing, err := a.issuers.open(ctx, parent)
	if err != nil {
		return Issuer{}, err
	}
	self := issuer.ID == parent.ID
	var footing Footing
	switch {
	case !self:
		if footing, err = a.judge(ctx, signing, p); err != nil {
			return Issuer{}, err
		}
	case issuer.State != IssuerActive && issuer.State != IssuerPending: // but its own certificate may have ended
		return Issuer{}, pki.Errorf(pki.KindFailedPrecondition, "certify issuer", "issuer %s is %s", issuer.Label, issuer.State).InField("issuer")
	}
	csr := issuer.CSR
	if csr == nil {
		key, err := a.issuers.open(ctx, issuer)
		if err != nil {
			return Issuer{}, err
		}
		if csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: issuer.Subject}, key.key.Signer); err != nil {
			return Issuer{}, pki.Errorf(pki.KindInternal, "create issuer", "make request: %w", err)
		}
	}
	o := order{
		Request: Request{Profile: p.Name, CSR: csr, Lifetime: life.Lifetime, AtMost: life.AtMost},
		profile: p, issuer: signing, principal: grant.Principal(), subject: issuer.Subject,
		keyID: subjectKeyID(issuer), self: self, footing: footing,
	}
	var issued *Issued
	if o.csr, err = provePossession(p, csr); err == nil {
		issued, err = a.issue(ctx, o)
	}
	if err != nil {
		return Issuer{}, a.refused(ctx, grant.Principal(), Request{Profile: p.Name}, err)
	}
	var chain [][]byte
	if !self {
		above := parent.certificate()
		chain = append([][]byte{above.DER}, above.Chain...)
	}
	return a.addCertificate(ctx, grant, issuer, IssuerCertificate{DER: issued.DER, Chain: chain, NotAfter: issued.NotAfter, Chosen: chosen}, "")
}

// subjectKeyID returns the key identifier in the certificates of an issuer; nil while it has none. All certificates of
// one key have the same, because issued certificates name it and verifiers compare (RFC 5280, Section 4.2.1.2).
func subjectKeyID(issuer Issuer) []byte {
	present := issuer.certificate()
	if present == nil {
		return nil
	}
	c, err := x509.ParseCertificate(present.DER)
	if err != nil {
		return nil
	}
	return c.SubjectKeyId
}

// addCertificate adds a certificate to an issuer, or chooses one that it has. wider says what the certificate allows
// beyond the request.
func (a *Authority) addCertificate(ctx context.Context, grant auth.Grant, issuer Issuer, certificate IssuerCertificate, wider string) (Issuer, error) {
	certificate.AddedAt = a.config.Now().UTC().Truncate(time.Microsecond)
	event := a.issuerEvent(grant, "issuer.certificate", issuer)
	event.Detail["fingerprint"] = pki.HashSPKI(certificate.DER).String() // SHA-256, of the certificate here
	if wider != "" {
		event.Detail["wider"] = clip(wider, 500)
	}
	if err := a.config.Issuers.AddIssuerCertificate(ctx, issuer.ID, certificate, event); err != nil {
		return Issuer{}, err
	}
	return a.reloaded(ctx, issuer.ID)
}

func (a *Authority) reloaded(ctx context.Context, id pki.IssuerID) (Issuer, error) {
	if err := a.issuers.load(ctx); err != nil {
		return Issuer{}, err
	}
	a.changed(ctx)
	return a.issuers.find(id)
}

// changed announces that the issuers have changed.
func (a *Authority) changed(ctx context.Context) {
	if a.config.Changed != nil {
		a.config.Changed(ctx)
	}
}

func (a *Authority) issuerEvent(grant auth.Grant, action string, issuer Issuer) audit.Event {
	principal := grant.Principal()
	return audit.Event{
		At: a.config.Now(), Actor: principal.ID, Action: action, Target: "issuer/" + issuer.ID.String(), Outcome: audit.OK,
		RequestID: principal.RequestID, Source: principal.Source,
		Detail: map[string]string{"label": issuer.Label, "subject": pki.NameText(issuer.Subject), "key": issuer.KeyHash.String()},
	}
}
