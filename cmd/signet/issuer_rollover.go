package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

type issuerRolloverCmd struct {
	Issuer       string   `arg:"" help:"Id, label or name of the authority to be replaced."`
	Label        string   `placeholder:"LABEL" help:"Label of its successor (default: the same with the next number: issuing, issuing-2, issuing-3)."`
	CommonName   string   `placeholder:"TEXT" help:"Common name of its successor (default: the same with the next number)."`
	KeyAlgorithm string   `placeholder:"ALG" help:"Key of its successor (default: of the same kind)."`
	Lifetime     duration `placeholder:"DURATION" help:"How long its successor lives (default: 20y for a root, 10y for others)."`
	Overlap      duration `placeholder:"DURATION" help:"Of a root: how long the two sign each other (default: 10y, at most what is left of either)."`
	Parent       string   `placeholder:"ID" help:"Who signs its successor (default: who signed it)."`
	CSR          string   `placeholder:"FILE" help:"Where the request goes, if the parent is off-line (default: LABEL.csr)."`
	Plan         bool     `help:"Show what is done and what is to be done, and change nothing."`
	Yes          bool     `help:"Do it without asking."`
	serverFlags
}

// Help is shown by signet issuer rollover --help.
func (issuerRolloverCmd) Help() string {
	return `A new key needs a new name, so an authority is replaced by a successor. The plan is shown first. Every step looks at what is there, so
that the same command again goes on where it stopped, and does nothing when all is done.

A root: its successor is made, and each signs the other, so that clients that know either verify everything. If the root was revoked, or its
key blocked, neither signs the other: clients have to be given the new one. While it is on hold nothing is done. Then roll over what is
below it, with --parent.

An authority below a root: its successor is made under the same name rules and path length, and then the old one stops issuing (disabled).
Its lists and OCSP go on; nothing that it issued is touched. Profiles that name the old one hold that step back. Requests that name no issuer
are issued all the time: by the old one until it stops, and from then on by its successor.

Examples:
  signet issuer rollover issuing --plan
  signet issuer rollover issuing
  signet issuer rollover root --yes
  signet issuer rollover issuing --parent root-2 --yes`
}

// Run shows the plan, asks, and executes what is to be done.
func (c *issuerRolloverCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	r, err := c.look(a, api)
	if err != nil {
		return err
	}
	if c.Plan {
		return a.show(r.plan(), r.print)
	}
	if !a.json {
		r.print(a.printer())
	}
	if err := a.sure(rolloverOp, c.Yes || !r.open(), "Do this?"); err != nil {
		return err
	}
	for r.open() {
		step := r.next()
		if a.sure(rolloverOp, c.Yes || step.question == "", step.question) != nil {
			return pki.Errorf(pki.KindRefused, rolloverOp, "nobody said yes to: %s", step.What).WithHint("the same command goes on here")
		}
		if err := step.do(); err != nil {
			return fmt.Errorf("step %q: %w", step.What, err)
		}
		a.note("done: %s", step.What)
		if r, err = c.look(a, api); err != nil {
			return err
		}
	}
	if r.successor.State == client.IssuerPending && r.successor.CSRPEM != "" {
		if err := writeFile(c.csrFile(r), []byte(r.successor.CSRPEM)); err != nil {
			return err
		}
	}
	if err := a.show(r.plan(), r.end); err != nil {
		return err
	}
	if why := r.waiting(); why != "" {
		return answerNo(why)
	}
	return nil
}

const rolloverOp = "roll issuer over"

// rollover is how far the replacement of an authority has come, as the server shows it.
type rollover struct {
	api            *client.Client
	old, successor client.Issuer // the successor is zero until it is made
	created        client.NewIssuer
	steps          []rolloverStep
	count          uint64 // certificates of the old one that are in force
	bundle         *client.Bundle
	broken         string     // why the old one, a root, signs nothing any more, and nothing signs it; empty: it stands
	reason         pki.Reason // what its successor revokes with what it signed for it, if it is broken
}

// rolloverStep is one step. What waits for somebody else is neither done nor can it be done here.
type rolloverStep struct {
	What  string `json:"step"`
	Done  bool   `json:"done"`
	Waits string `json:"waits_for,omitempty"`

	do       func() error
	question string // asked before it is done; empty: nothing is
}

// rolloverPlan is what --output json prints.
type rolloverPlan struct {
	Issuer    string         `json:"issuer"`
	Broken    string         `json:"broken,omitempty"` // why the two roots do not sign each other
	Successor string         `json:"successor"`
	Steps     []rolloverStep `json:"steps"`
	Done      bool           `json:"done"`
	InForce   uint64         `json:"in_force"`
	Retire    string         `json:"retire_by"`
}

func (r *rollover) plan() rolloverPlan {
	return rolloverPlan{r.old.Label, r.broken, r.created.Label, r.steps, !r.open() && r.waiting() == "", r.count, r.old.NotAfter.UTC().Format(time.RFC3339)}
}

// next is the first step that can be done now; nil: there is none.
func (r *rollover) next() *rolloverStep {
	for i := range r.steps {
		if s := &r.steps[i]; s.Waits != "" {
			return nil // what follows builds on it
		} else if !s.Done {
			return s
		}
	}
	return nil
}

func (r *rollover) open() bool { return r.next() != nil }

// waiting is what a step waits for.
func (r *rollover) waiting() string {
	for _, s := range r.steps {
		if s.Waits != "" {
			return s.Waits
		}
	}
	return ""
}

// look finds out what is there, and from it what is to be done.
func (c *issuerRolloverCmd) look(a *app, api *client.Client) (*rollover, error) {
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return nil, err
	}
	id, err := chooseIssuer(issuers, c.Issuer)
	if byID, parseErr := pki.ParseIssuerID(c.Issuer); parseErr == nil {
		id, err = byID, nil
	}
	if err != nil {
		return nil, err
	}
	old, err := api.Issuer(a.ctx, id)
	if err != nil {
		return nil, err
	}
	if len(old.Certificates) == 0 {
		return nil, pki.Errorf(pki.KindFailedPrecondition, rolloverOp, "issuer %s has no certificate yet", old.Label).InField("issuer").WithHint("signet issuer import FILE")
	}
	if old.Root && !old.Online {
		return nil, pki.Errorf(pki.KindFailedPrecondition, rolloverOp, "the key of root %s is off-line", old.Label).InField("issuer").
			WithHint("hold its ceremonies: signet ceremony root, cross-sign; docs/OPERATIONS.md has them in order")
	}
	certificate, err := x509.ParseCertificate(old.Certificates[0])
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, rolloverOp, "%w", err)
	}
	r := &rollover{api: api, old: *old}
	if r.created, err = c.describe(a, api, issuers, *old, certificate); err != nil {
		return nil, err
	}
	for _, i := range issuers {
		if i.Label != r.created.Label {
			continue
		}
		if commonNameOf(i.Subject) != r.created.Subject.CommonName {
			return nil, pki.Errorf(pki.KindConflict, rolloverOp, "there is an issuer %s already, and its name is %s", i.Label, i.Subject).InField("--label").
				WithHint("if it is the successor, say so with --common-name; else choose another --label")
		}
		successor, err := api.Issuer(a.ctx, i.ID)
		if err != nil {
			return nil, err
		}
		r.successor = *successor
	}
	if r.successor.ID.IsZero() && !r.created.Offline { // it is made here, with what is read of the old one
		if err := ca.CheckRepeatable(certificate); err != nil {
			return nil, err
		}
	}
	return r, c.addSteps(a, r, issuers)
}

// describe says what the successor is to be: like the old one, but for the key and the number in its name.
func (c *issuerRolloverCmd) describe(a *app, api *client.Client, issuers []client.Issuer, old client.Issuer, certificate *x509.Certificate) (n client.NewIssuer, err error) {
	name := certificate.Subject
	n = client.NewIssuer{
		Label: c.Label, Algorithm: c.KeyAlgorithm, Public: old.Public, BaseURL: old.BaseURL, Lifetime: time.Duration(c.Lifetime),
		Subject: client.Subject{CommonName: c.CommonName, Organization: name.Organization, OrganizationalUnit: name.OrganizationalUnit, Country: name.Country,
			Province: name.Province, Locality: name.Locality},
		Permitted: client.NameConstraints{DNS: certificate.PermittedDNSDomains, Email: certificate.PermittedEmailAddresses, URI: certificate.PermittedURIDomains},
		Excluded:  client.NameConstraints{DNS: certificate.ExcludedDNSDomains, Email: certificate.ExcludedEmailAddresses, URI: certificate.ExcludedURIDomains},
	}
	for _, network := range certificate.PermittedIPRanges {
		n.Permitted.IP = append(n.Permitted.IP, network.String())
	}
	for _, network := range certificate.ExcludedIPRanges {
		n.Excluded.IP = append(n.Excluded.IP, network.String())
	}
	if certificate.MaxPathLen > 0 || certificate.MaxPathLenZero {
		n.PathLength = &certificate.MaxPathLen
	}
	if n.Label == "" {
		n.Label = numbered(old.Label, "-")
	}
	if n.Subject.CommonName == "" {
		n.Subject.CommonName = numbered(name.CommonName, " ")
	}
	if n.Algorithm == "" {
		n.Algorithm = keys.AlgorithmOf(certificate.PublicKey).String()
	}
	n.Succeeds = old.ID
	if old.Root {
		return n, nil
	}
	parent, known := signerOf(issuers, certificate)
	if c.Parent != "" {
		id, err := findIssuer(a, api, c.Parent)
		if err != nil {
			return n, err
		}
		for _, i := range issuers {
			if i.ID == id {
				parent, known = i, true
			}
		}
	}
	if n.Offline = !known || !parent.Online; n.Offline {
		n.Lifetime = 0 // its ceremony says that
		return n, nil
	}
	n.Parent = parent.ID
	return n, nil
}

var trailingNumber = regexp.MustCompile(`^(.*[^0-9])([0-9]{1,6})$`)

// numbered is a name with the next number: "issuing" becomes "issuing-2", "Example CA 2" becomes "Example CA 3".
func numbered(name, separator string) string {
	if parts := trailingNumber.FindStringSubmatch(name); parts != nil && strings.HasSuffix(parts[1], separator) {
		if n, err := strconv.Atoi(parts[2]); err == nil {
			return parts[1] + strconv.Itoa(n+1)
		}
	}
	return name + separator + "2"
}

// signerOf finds the authority here that signed a certificate.
func signerOf(issuers []client.Issuer, certificate *x509.Certificate) (client.Issuer, bool) {
	for _, i := range issuers {
		if len(i.Certificates) == 0 {
			continue
		}
		above, err := x509.ParseCertificate(i.Certificates[0])
		if err == nil && bytes.Equal(above.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(above) == nil {
			return i, true
		}
	}
	return client.Issuer{}, false
}

// addSteps adds every step, with whether it is done.
func (c *issuerRolloverCmd) addSteps(a *app, r *rollover, issuers []client.Issuer) (err error) {
	made := !r.successor.ID.IsZero() && (r.successor.State != client.IssuerPending || r.created.Offline)
	create := rolloverStep{What: fmt.Sprintf("make %s, %q, with a new key (%s)%s", r.created.Label, r.created.Subject.CommonName, r.created.Algorithm, under(issuers, r.created)), Done: made}
	create.do = func() error { // a call that broke off is taken up by the server
		_, err := r.api.CreateIssuer(a.ctx, r.created)
		return err
	}
	r.steps = append(r.steps, create)
	if r.old.Root {
		hold, err := c.standing(a, r)
		if err != nil {
			return err
		}
		if hold != "" {
			r.steps = slices.Insert(r.steps, 0, rolloverStep{What: "settle whether " + r.old.Label + ", which is on hold, is to be trusted", Waits: hold})
		}
		if r.broken != "" {
			disown, any, err := c.disown(a, r)
			if err != nil {
				return err
			}
			if any {
				r.steps = append(r.steps, disown)
			}
		} else {
			r.steps = append(r.steps, c.crossSign(a, r, r.successor, r.old, r.created.Label, r.old.Label), c.crossSign(a, r, r.old, r.successor, r.old.Label, r.created.Label))
		}
	} else {
		if r.created.Offline {
			waits := ""
			if made && r.successor.State == client.IssuerPending {
				waits = "its certificate: have " + c.csrFile(r) + " signed where its parent is (" + c.ceremony(r) + "), and bring it with signet issuer import FILE"
			}
			r.steps = append(r.steps, rolloverStep{What: "bring the certificate of " + r.created.Label, Done: made && waits == "", Waits: waits})
		}
		stop, err := c.stop(a, r, made)
		if err != nil {
			return err
		}
		r.steps = append(r.steps, stop)
	}
	if r.count, err = inForce(a, r); err != nil {
		return err
	}
	if made && len(r.successor.Certificates) > 0 {
		r.bundle, err = r.api.IssuerBundle(a.ctx, r.successor.ID, time.Time{})
	}
	return err
}

func under(issuers []client.Issuer, n client.NewIssuer) string {
	for _, i := range issuers {
		if i.ID == n.Parent {
			return ", below " + i.Label
		}
	}
	if n.Offline {
		return ", below an authority that is off-line"
	}
	return ", a root"
}

func (c *issuerRolloverCmd) csrFile(r *rollover) string {
	if c.CSR != "" {
		return c.CSR
	}
	return r.created.Label + ".csr"
}

// ceremony is the command that signs the request, which asks for the name rules and the path length itself.
func (c *issuerRolloverCmd) ceremony(r *rollover) string {
	command := "signet ceremony sign --csr " + c.csrFile(r)
	if c.Lifetime != 0 {
		command += " --lifetime " + time.Duration(c.Lifetime).String()
	}
	return command
}

// crossSign is the step in which parent signs subject. Until the successor is made, either of them is the zero issuer.
func (c *issuerRolloverCmd) crossSign(a *app, r *rollover, subject, parent client.Issuer, subjectLabel, parentLabel string) rolloverStep {
	step := rolloverStep{What: fmt.Sprintf("have %s sign %s", parentLabel, subjectLabel)}
	for _, der := range subject.Certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, signed := signerOf([]client.Issuer{parent}, certificate); signed && time.Now().Before(certificate.NotAfter) {
			step.Done = true
			step.What += ", until " + certificate.NotAfter.UTC().Format(time.DateOnly)
		}
	}
	step.do = func() error {
		_, err := r.api.CrossSignIssuer(a.ctx, subject.ID, parent.ID, time.Duration(c.Overlap))
		return err
	}
	return step
}

// standing finds out whether the old root is broken, so that nothing may depend on it any more: the server would not let it sign, and
// whoever has stolen its key would have, by a certificate of its successor, what the successor has. A root on hold may turn out either
// way, and the steps are others then: hold says what is to be decided first.
func (c *issuerRolloverCmd) standing(a *app, r *rollover) (hold string, err error) {
	blocked, err := r.api.KeyIsBlocked(a.ctx, r.old.KeyHash)
	if err != nil {
		return "", err
	}
	if blocked {
		r.broken, r.reason = "its key is blocked: it was reported as compromised", pki.CACompromise
		return "", nil
	}
	for i, der := range r.old.Certificates {
		check, err := r.api.Check(a.ctx, der, time.Time{})
		if err != nil {
			return "", err
		}
		if i == 0 && check.Status == client.StatusOnHold {
			hold = fmt.Sprintf("an end of the hold on %s: release it (signet release), or revoke it (signet revoke)", r.old.Label)
		}
		if check.Status != client.StatusRevoked || check.Revocation == nil {
			continue
		}
		if reason := check.Revocation.Reason; i == 0 || reason == pki.KeyCompromise || reason == pki.CACompromise { // as the server judges
			r.broken, r.reason = fmt.Sprintf("it is revoked (%s)", reason), reason
			return "", nil
		}
	}
	return hold, nil
}

// disown is the step in which the successor takes back what it signed for a root that turned out to be broken; ok: there is such a thing.
func (c *issuerRolloverCmd) disown(a *app, r *rollover) (step rolloverStep, ok bool, err error) {
	step = rolloverStep{What: fmt.Sprintf("revoke what %s signed for %s", r.created.Label, r.old.Label), Done: true}
	for _, der := range r.old.Certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, signed := signerOf([]client.Issuer{r.successor}, certificate); !signed {
			continue
		}
		check, err := r.api.Check(a.ctx, der, time.Time{})
		if err != nil {
			return step, false, err
		}
		if ok = true; check.Status == client.StatusGood {
			step.Done = false
			step.do = func() error {
				_, err := r.api.Revoke(a.ctx, client.RevokeRequest{Certificate: der, Reason: r.reason})
				return err
			}
		}
	}
	return step, ok, nil
}

// stop is the step after which the old authority issues nothing more.
func (c *issuerRolloverCmd) stop(a *app, r *rollover, made bool) (rolloverStep, error) {
	step := rolloverStep{What: fmt.Sprintf("stop %s from issuing (disabled); its lists and OCSP go on", r.old.Label), Done: r.old.State != client.IssuerActive}
	step.do = func() error {
		_, err := r.api.SetIssuerState(a.ctx, r.old.ID, client.IssuerDisabled)
		return err
	}
	if step.Done {
		return step, nil
	}
	instances, err := r.api.ProfileInstances(a.ctx)
	if err != nil {
		return step, err
	}
	if n := len(instances); n > 1 { // one that lacks it would refuse what names no issuer, and only it knows
		step.What += fmt.Sprintf(". First each of the %d instances needs the key of %s: /readyz of one that lacks it warns", n, r.created.Label)
		step.question = fmt.Sprintf("Has each of the %d instances the key of %s?", n, r.created.Label)
	}
	profiles, err := r.api.Profiles(a.ctx)
	if err != nil || !made {
		return step, err
	}
	var bound []string
	for _, p := range profiles {
		if p.Issuer == r.old.Label {
			bound = append(bound, p.Name)
		}
	}
	if len(bound) > 0 {
		step.Waits = fmt.Sprintf("profile %s, which names it: write issuer: %s there and reload the profiles (signet profile reload)", sentence(bound), r.created.Label)
	}
	return step, nil
}

// inForce counts the certificates that the old one issued, without that of its OCSP responder, which it has to its end.
func inForce(a *app, r *rollover) (uint64, error) {
	filter := client.Filter{Issuer: r.old.ID, Standing: client.StandingValid}
	all, err := r.api.Count(a.ctx, filter)
	if err != nil {
		return 0, err
	}
	filter.Profile = "ocsp-responder"
	own, err := r.api.Count(a.ctx, filter)
	if err != nil {
		return 0, err
	}
	return all.Count - min(own.Count, all.Count), nil // large numbers are estimates
}

// print shows the plan.
func (r *rollover) print(p *printer) {
	p.line("%s gives way to %s", r.old.Label, r.created.Label)
	if r.broken != "" {
		p.line("  %s: %s. So neither is to sign the other: clients verify nothing of %s until they have it.", r.old.Label, r.broken, r.created.Label)
	}
	var rows [][]string
	for i, s := range r.steps {
		state := "to do"
		switch {
		case s.Done:
			state = "done"
		case s.Waits != "":
			state = "waits"
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), state, s.What})
	}
	p.table([]string{"STEP", "STATE", "WHAT"}, rows)
	if why := r.waiting(); why != "" {
		p.line("  waits for %s", why)
	}
}

// end says how things stand, and what comes next.
func (r *rollover) end(p *printer) {
	if r.waiting() != "" {
		r.print(p)
		p.next("signet issuer rollover %s again, to go on", r.old.Label)
		return
	}
	p.line("%s has taken over from %s", r.successor.Label, r.old.Label)
	if r.bundle != nil {
		var rows [][]string
		for _, path := range r.bundle.Paths {
			rows = append(rows, []string{path.NotBefore.UTC().Format(time.DateOnly), path.NotAfter.UTC().Format(time.DateOnly), strings.Join(path.Subjects, " < ")})
		}
		p.table([]string{"FROM", "UNTIL", "WAY"}, rows)
	}
	end := r.old.NotAfter.UTC().Format(time.DateOnly)
	if r.broken != "" {
		p.line("  %s: %s. Clients have to trust %s, and no longer %s.", r.old.Label, r.broken, r.successor.Label, r.old.Label)
		p.next("hand out signet issuer bundle %s --roots > trust.pem; signet issuer rollover AUTHORITY --parent %s for each that is below it; make a backup", r.successor.Label, r.successor.Label)
		return
	}
	if r.old.Root {
		p.line("  %s ends at %s. It may be retired when every client trusts %s, and nothing below it issues.", r.old.Label, end, r.successor.Label)
		p.next("hand out signet issuer bundle %s --roots > trust.pem; then signet issuer rollover AUTHORITY --parent %s for each that is below it; make a backup", r.successor.Label, r.successor.Label)
		return
	}
	p.line("  %d certificates of %s are in force. It may be retired when none is: at the latest at %s.", r.count, r.old.Label, end)
	if r.count == 0 {
		p.next("signet issuer state %s retired; make a backup, which holds the new key", r.old.Label)
		return
	}
	p.next("make a backup, which holds the new key; later signet list --issuer %s --standing valid", r.old.Label)
}
