package ca

import (
	"cmp"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Config configures an Authority.
type Config struct {
	Profiles     *profile.Set     // required
	Keys         keys.Store       // required; behind a keys.Guard where a key can be outside this process
	Issuers      IssuerStore      // required
	Ranges       RangeStore       // required
	Certificates CertificateStore // required
	Inventory    Inventory        // required
	Audit        AuditStore       // required
	WeakKeys     policy.WeakKeys  // empty: none are known
	Status       Statuses         // of the issuers' own certificates; nil: none counts as revoked, for use before there is a ledger
	Lease        time.Duration    // of reserved ranges; zero: 30 s
	KeepExpired  time.Duration    // how long the inventory holds a certificate after its week of expiry; zero: a year
	Now          func() time.Time // nil: time.Now

	// Changed is called after a method of this Authority has changed an issuer and before it returns, so that callers
	// that follow the issuers need not poll. Nil: not called.
	Changed func(context.Context)
}

// Authority issues certificates. It is safe for concurrent use. Run keeps its leases while it issues; Close returns
// what it reserved.
type Authority struct {
	config   Config
	issuers  *issuers
	ranges   *ranges
	recorder *recorder
	fixed    fixedCache
	leftOut  leftOut

	mu      sync.RWMutex // guards the rest
	blocked map[pki.KeyHash]bool
	since   time.Time // blocked keys are known up to here, by the database's clock
	rules   map[*profile.Profile]*lint.Rules
}

// New reads the issuers and blocked keys and checks that every lint a profile names exists. It signs nothing.
func New(ctx context.Context, config Config) (*Authority, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	config.Lease = cmp.Or(config.Lease, 30*time.Second)
	config.KeepExpired = cmp.Or(config.KeepExpired, 365*24*time.Hour)
	r, err := newRanges(config.Ranges, config.Lease, config.Now)
	if err != nil {
		return nil, err
	}
	a := &Authority{
		config: config,
		issuers: &issuers{
			store: config.Issuers, keys: config.Keys, now: config.Now,
			opened: make(map[pki.IssuerID]*issuerKey), opening: make(map[pki.IssuerID]*opening),
		},
		ranges:   r,
		recorder: &recorder{store: config.Certificates, owner: r.owner},
		blocked:  make(map[pki.KeyHash]bool),
		rules:    make(map[*profile.Profile]*lint.Rules),
	}
	for _, p := range config.Profiles.All() {
		if _, err := a.rulesOf(p); err != nil {
			return nil, err
		}
	}
	return a, a.refresh(ctx)
}

// order is a request whose profile and issuer are known.
type order struct {
	Request
	profile   *profile.Profile
	csr       *x509.CertificateRequest // its maker proved possession of the key
	issuer    *issuerKey
	principal auth.Principal
	footing   Footing    // what the issuer was judged by; zero: it is not judged
	approval  ApprovalID // zero: none was needed
	subject   []byte     // DER Name of an issuer here, used unchanged; nil: by profile and request
	keyID     []byte     // subjectKeyIdentifier of an issuer that already has one; nil: computed
	self      bool       // the issuer signs its own key
}

// Issue makes, records and returns one certificate. The grant must allow auth.ActionIssue for the profile. A refusal is
// a *pki.Error that names the field at fault, and is in the audit log.
func (a *Authority) Issue(ctx context.Context, grant auth.Grant, request Request) (*Issued, error) {
	issued, err := a.issueRequest(ctx, grant, request)
	if err != nil {
		return nil, a.refused(ctx, grant.Principal(), request, err)
	}
	return issued, nil
}

func (a *Authority) issueRequest(ctx context.Context, grant auth.Grant, request Request) (*Issued, error) {
	if err := checkRequest(request); err != nil {
		return nil, err
	}
	p, err := a.admit(grant, request.Profile)
	if err != nil {
		return nil, err
	}
	if p.Approval && !grant.Principal().IsSystem() { // Signet's own certificates, such as the API's, need no approval
		return nil, pki.Errorf(pki.KindFailedPrecondition, "issue certificate", "profile %s needs an approval", p.Name).InField("profile").
			WithHint("ask with `signet issue --wait`, or over IssueCertificate, which file the request for approval")
	}
	if request.RequestID != "" {
		if repeated, err := a.repeat(ctx, grant.Principal().Account, request); repeated != nil || err != nil {
			return repeated, err
		}
	}
	o, err := a.order(ctx, grant, p, request, pki.IssuerID{})
	if err != nil {
		return nil, err
	}
	return a.issue(ctx, o)
}

// order finds the issuer of an admitted request. filed is the issuer that it would have had when it was filed; zero: it
// was not filed.
func (a *Authority) order(ctx context.Context, grant auth.Grant, p *profile.Profile, request Request, filed pki.IssuerID) (order, error) {
	csr, err := provePossession(p, request.CSR)
	if err != nil {
		return order{}, err
	}
	if p.CA != nil {
		if err := checkLimits(p, csr); err != nil {
			return order{}, err
		}
	}
	o := order{Request: request, profile: p, csr: csr, principal: grant.Principal()}
	names, _, err := namesOf(o, csr)
	if err != nil {
		return order{}, err
	}
	issuer, err := a.issuerOf(ctx, p, request, filed, names)
	if err != nil {
		return order{}, err
	}
	o.issuer, o.footing, err = a.engage(ctx, issuer, p)
	if err != nil { // another may have taken its place after it was chosen
		if next, none := a.issuerOf(ctx, p, request, filed, names); none == nil && next.ID != issuer.ID {
			o.issuer, o.footing, err = a.engage(ctx, next, p)
		}
	}
	return o, err
}

// issuerOf finds the present issuer of a request for these names, which may have waited for an approval.
func (a *Authority) issuerOf(ctx context.Context, p *profile.Profile, request Request, filed pki.IssuerID, names []pki.Identifier) (Issuer, error) {
	if request.renews() {
		return a.renewer(ctx, p, request.Issuer, names)
	}
	could := func(i Issuer) error { return a.couldSign(ctx, i.ID, p, names) }
	if !filed.IsZero() && request.Issuer.IsZero() && p.Issuer == "" {
		return a.approver(p, filed, could)
	}
	return a.issuers.choose(p, request.Issuer, could)
}

// engage opens the key of an issuer and judges the issuer.
func (a *Authority) engage(ctx context.Context, issuer Issuer, p *profile.Profile) (*issuerKey, Footing, error) {
	key, err := a.issuers.open(ctx, issuer)
	if err != nil {
		return nil, Footing{}, err
	}
	footing, err := a.judge(ctx, key, p)
	return key, footing, err
}

// issue is the pipeline of every certificate.
func (a *Authority) issue(ctx context.Context, o order) (*Issued, error) {
	d, err := a.examine(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := a.retain(ctx, o); err != nil {
		return nil, err
	}
	taken, err := a.ranges.take(ctx, o.issuer, d.epoch)
	if err != nil {
		return nil, err
	}
	settle := a.ranges.signed // unless it is certain that nothing was signed; so also after a panic
	defer func() { settle(ctx, taken) }()
	tbs, ticket, err := a.prepare(o, d, taken)
	if err != nil {
		settle = a.ranges.giveBack
		return nil, err
	}
	// From here on, if this process stops before the certificate is recorded, reconciliation finds the range open,
	// recomputes the serial, and makes it void.
	der, unsigned, err := d.issuer.sign(ticket, tbs)
	if unsigned { // otherwise every request while a token is away would put a void on the CRLs
		settle = a.ranges.giveBack
	}
	if err != nil {
		return nil, err
	}
	return a.release(ctx, o, d, taken, der)
}

// examine makes every check of a request that needs no index.
func (a *Authority) examine(ctx context.Context, o order) (*draft, error) {
	d, err := newDraft(o, a.config.Now())
	if err != nil {
		return nil, err
	}
	d.fixed = &a.fixed
	return d, a.checkPolicy(ctx, o, d)
}

// admit finds the profile and checks that the caller may use it.
func (a *Authority) admit(grant auth.Grant, name string) (*profile.Profile, error) {
	const op = "issue certificate"
	p, err := a.config.Profiles.Get(name)
	if err != nil {
		return nil, err
	}
	principal := grant.Principal()
	if !grant.Allows(auth.ActionIssue, name) {
		return nil, pki.Errorf(pki.KindDenied, op, "%s may not issue under profile %s", principal.ID, name).InField("profile")
	}
	if system := p.Internal && principal.IsSystem(); !system && !p.MayUse(principal.Role, principal.Account) {
		return nil, pki.Errorf(pki.KindDenied, op, "profile %s is not for %s", name, principal.ID).InField("profile")
	}
	return p, nil
}

// newDraft composes the content of the certificate.
func newDraft(o order, now time.Time) (*draft, error) {
	csr := o.csr
	names, requested, err := namesOf(o, csr)
	if err != nil {
		return nil, err
	}
	d := &draft{profile: o.profile, issuer: o.issuer, key: csr.PublicKey, names: names, fixed: new(fixedCache)}
	if o.subject != nil {
		d.subject = subject{der: o.subject, text: pki.NameText(o.subject)}
	} else {
		if d.subject, err = subjectFor(o.profile, requested, names); err != nil {
			return nil, err
		}
	}
	if d.spki, d.keyBits, err = ownSPKI(csr.RawSubjectPublicKeyInfo, csr.PublicKey); err != nil {
		return nil, refuse("csr", "public key: %w", err)
	}
	if o.profile.KeyUsage != 0 && usageFor(o.profile.KeyUsage, csr.PublicKey) == 0 {
		return nil, refuse("csr", "a key of this kind supports none of the key usages of profile %s", o.profile.Name).WithHint("use a key of another kind")
	}
	d.keyHash, d.material = pki.HashSPKI(d.spki), pki.HashKeyMaterial(d.key)
	if d.keyID = o.keyID; d.keyID == nil {
		d.keyID = keyID(d.keyBits)
	}
	if err := d.setValidity(o, now); err != nil {
		return nil, err
	}
	asked := csr.Extensions
	if o.renews() {
		asked = o.Extensions
	}
	d.copied = copiedExtensions(o.profile, asked)
	return d, nil
}

func copiedExtensions(p *profile.Profile, asked []pkix.Extension) []pkix.Extension {
	var copied []pkix.Extension
	for _, extension := range asked {
		if slices.ContainsFunc(p.CSRExtensions, extension.Id.Equal) {
			copied = append(copied, extension)
		}
	}
	return copied
}

// setValidity keeps the certificate within its issuer's validity. It refuses a requested lifetime that does not fit; it
// shortens the profile's own.
func (d *draft) setValidity(o order, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	d.notBefore = now.Add(-d.profile.Backdate)
	lifetime, asked := d.profile.Lifetime, false
	if o.AtMost != 0 {
		lifetime = min(lifetime, o.AtMost)
	}
	if o.Lifetime != 0 {
		lifetime, asked = o.Lifetime, true
	}
	d.notAfter = now.Add(lifetime - time.Second) // both ends belong to the validity (RFC 5280, Section 4.1.2.5)
	field := "lifetime"
	if !o.NotAfter.IsZero() {
		d.notAfter, asked, field = o.NotAfter.UTC().Truncate(time.Second), true, "not_after"
	}
	if d.notAfter.Sub(now) > d.profile.MaxLifetime {
		return refuse(field, "profile %s allows at most %s", d.profile.Name, days(d.profile.MaxLifetime))
	}
	if !d.notAfter.After(now) {
		return refuse(field, "would end at %s, before it begins", d.notAfter.Format(time.RFC3339))
	}
	if issuer := d.issuer.certificate; issuer != nil && !o.self {
		if d.notBefore.Before(issuer.NotBefore) {
			d.notBefore = issuer.NotBefore
		}
		if d.notAfter.After(issuer.NotAfter) {
			if asked {
				return refuse(field, "the issuer's own certificate ends at %s", issuer.NotAfter.Format(time.RFC3339))
			}
			d.notAfter = issuer.NotAfter
		}
	}
	var err error
	if d.epoch, err = pki.EpochAt(d.notAfter.Unix()); err != nil {
		return refuse(field, "%w", err)
	}
	return nil
}

func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return strconv.Itoa(int(d/day)) + " days"
	}
	return d.String()
}

// prepare finds the rules of the profile, and prepares the draft.
func (a *Authority) prepare(o order, d *draft, taken slot) ([]byte, Ticket, error) {
	rules, err := a.rulesOf(d.profile)
	if err != nil {
		return nil, Ticket{}, err
	}
	d.serial = taken.serial()
	return d.prepare(rules, o.self, d.serial, taken.position(), taken.from.BaseURL)
}

// prepare encodes the certificate, lints exactly those bytes and returns the ticket for them.
func (d *draft) prepare(rules *lint.Rules, self bool, serial pki.Serial, position pki.Position, baseURL string) ([]byte, Ticket, error) {
	tbs, err := d.lint(rules, self, serial, position, baseURL)
	if err != nil {
		return nil, Ticket{}, err
	}
	return tbs, ticketFor(tbs), nil
}

// lint encodes the certificate for a serial and lints exactly those bytes.
func (d *draft) lint(rules *lint.Rules, self bool, serial pki.Serial, position pki.Position, baseURL string) ([]byte, error) {
	tbs, err := d.encode(serial, position, baseURL)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "prepare certificate", "encode: %w", err)
	}
	if err := rules.Certificate(tbs, d.issuer.algorithm.der, self); err != nil {
		return nil, (&pki.Error{Kind: pki.KindRefused, Op: "lint certificate", Err: err}).
			WithHint("change the request, or waive the rule in profile %s with a reason", d.profile.Name)
	}
	return tbs, nil
}

// rulesOf compiles the lint rules of a profile once.
func (a *Authority) rulesOf(p *profile.Profile) (*lint.Rules, error) {
	a.mu.RLock()
	rules := a.rules[p]
	a.mu.RUnlock()
	if rules != nil {
		return rules, nil
	}
	rules, err := lint.Compile(p.LintSources, p.Waivers)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.rules, func(old *profile.Profile, _ *lint.Rules) bool { return old.Name == p.Name }) // from before a reload
	a.rules[p] = rules
	return rules, nil
}

// release records the certificate, and only then returns it.
func (a *Authority) release(ctx context.Context, o order, d *draft, taken slot, der []byte) (*Issued, error) {
	entry := a.entry(o, d, taken, der)
	outcome, err := a.record(ctx, o, &entry)
	if err != nil {
		return nil, err
	}
	switch outcome {
	case Recorded:
		return &Issued{Certificate: entry.Certificate, Chain: a.chain(ctx, &d.issuer.Issuer)}, nil
	case KeyBlocked:
		a.mu.Lock()
		a.blocked[d.keyHash] = true
		a.mu.Unlock()
		return nil, blockedKey()
	case RequestUsed:
		repeated, err := a.repeat(ctx, o.principal.Account, o.Request)
		if repeated == nil && err == nil {
			err = pki.Errorf(pki.KindUnavailable, "record certificate", "the certificate of this request id is gone").InField("request_id").
				WithHint("try again")
		}
		return repeated, err
	case ApprovalUsed:
		return nil, pki.Errorf(pki.KindConflict, "record certificate", "request %s has its certificate, or is no longer approved", o.approval).
			InField("request").WithHint("signet requests show %s", o.approval)
	case RangeLost:
		a.ranges.lost(taken.from)
		return nil, pki.Errorf(pki.KindUnavailable, "record certificate", "this process was away longer than its lease").WithHint("try again")
	case IssuerGone:
		_ = a.ranges.retire(ctx, taken.from) // it closes when its last index is settled, and what was signed becomes void
		return nil, pki.Errorf(pki.KindFailedPrecondition, "record certificate", "the issuer that it certifies was deleted meanwhile").InField("issuer").
			WithHint("create the issuer again: the certificate that was signed for it becomes void, and is on the next CRL")
	case IssuerNews:
		return nil, pki.Errorf(pki.KindUnavailable, "record certificate", "issuer %s keeps changing", d.issuer.Label).WithHint("try again")
	}
	return nil, pki.Errorf(pki.KindInternal, "record certificate", "unknown outcome %d", outcome)
}

// record records the certificate. If the issuer has changed anywhere while the certificate was signed, it judges the
// issuer again.
func (a *Authority) record(ctx context.Context, o order, entry *Entry) (outcome Outcome, err error) {
	const most = 3 // news of an issuer are rare
	for range most {
		if outcome, err = a.recorder.record(ctx, *entry); err != nil || outcome != IssuerNews {
			break
		}
		if entry.Footing.Key == (pki.KeyHash{}) { // not judged: the news are of another entry of the same transaction
			continue
		}
		if entry.Footing, err = a.judgeAgain(ctx, o.issuer, o.profile); err != nil {
			break
		}
	}
	return outcome, err
}

func (a *Authority) entry(o order, d *draft, taken slot, der []byte) Entry {
	now := a.config.Now().UTC().Truncate(time.Microsecond)
	serial := d.serial
	entry := Entry{
		Certificate: inventory.Certificate{
			Issuer: d.issuer.ID, Position: taken.position(), Serial: serial, Profile: d.profile.Name, Account: o.principal.Account,
			Subject: d.subject.text, KeyHash: d.keyHash, NotBefore: d.notBefore, NotAfter: d.notAfter, IssuedAt: now, DER: der,
		},
		Range: taken.from.ID, Names: d.names, Authority: d.profile.CA != nil, Certifies: o.subject != nil, KeyMaterial: d.material,
		RequestID: o.RequestID, Approval: o.approval, Footing: o.footing,
		Event: audit.Event{
			At: now, Actor: o.principal.ID, Action: "certificate.issue", Target: "issuer/" + d.issuer.ID.String() + "/serial/" + serial.String(),
			Outcome: audit.OK, RequestID: o.principal.RequestID, Source: o.principal.Source,
			Detail: map[string]string{
				"profile": d.profile.Name, "account": o.principal.Account, "key": d.keyHash.String(),
				"not_after": d.notAfter.Format(time.RFC3339), "names": strconv.Itoa(len(d.names)),
			},
		},
	}
	if d.subject.common != "" {
		entry.Names = append(slices.Clip(entry.Names), inventory.Name{Value: strings.ToLower(d.subject.common)})
	}
	if o.RequestID != "" {
		entry.Digest = o.Request.Digest()
	}
	if !o.approval.IsZero() {
		entry.Event.Detail["request"] = o.approval.String()
	}
	return entry
}

// refused writes a refusal to the audit log and returns it. The outcome is "refused" for a broken rule, "failed" for a
// fault.
func (a *Authority) refused(ctx context.Context, principal auth.Principal, request Request, cause error) error {
	if e, ok := errors.AsType[*pki.Error](cause); ok && e.Kind == pki.KindRefused && e.Hint == "" {
		e.Hint = "`signet profile show " + clip(request.Profile, 64) + "` says what the profile allows; an administrator can change it"
	}
	outcome := audit.Refused
	switch pki.KindOf(cause) {
	case pki.KindInternal, pki.KindUnavailable, pki.KindExhausted:
		outcome = audit.Failed
	}
	event := audit.Event{
		At: a.config.Now(), Actor: principal.ID, Action: "certificate.issue", Target: "profile/" + clip(request.Profile, 64),
		Outcome: outcome, RequestID: principal.RequestID, Source: principal.Source,
		Detail: map[string]string{"account": principal.Account, "error": clip(cause.Error(), 500)},
	}
	if err := a.config.Audit.AppendAudit(context.WithoutCancel(ctx), []audit.Event{event}); err != nil {
		if outcome == audit.Refused {
			return err // the refusal is not returned unless it is in the log
		}
		a.leftOut.all.Add(1) // the failure itself is returned
	}
	return cause
}

func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func refuse(field, format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindRefused, "issue certificate", format, args...).InField(field)
}
