package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/rollover"
)

type issuerRolloverCmd struct {
	Issuer       string   `arg:"" help:"Id, label or name of the authority to be replaced."`
	Label        string   `placeholder:"LABEL" help:"Label of its successor (default: the same with the next number: issuing, issuing-2, issuing-3)."`
	CommonName   string   `placeholder:"TEXT" help:"Common name of its successor (default: the same with the next number)."`
	KeyAlgorithm string   `placeholder:"ALG" help:"Key of its successor (default: of the same kind)."`
	Lifetime     duration `placeholder:"DURATION" help:"Lifetime of its successor (default: 20y for a root, 10y for others)."`
	Overlap      duration `placeholder:"DURATION" help:"For a root: lifetime of the cross-certificates (default: 10y, at most what is left of either)."`
	Parent       string   `placeholder:"ID" help:"Id, label or name of the authority that signs its successor (default: the one that signed it)."`
	CSR          string   `placeholder:"FILE" help:"Where the request goes, if the parent is off-line (default: LABEL.csr)."`
	Plan         bool     `help:"Show which steps are done and which are not, and change nothing."`
	Yes          bool     `help:"Do it without confirmation, except that each of several instances has the new key."`
	KeysAreThere bool     `help:"Each instance has the key of the successor."`
	serverFlags
}

// Help is shown by signet issuer rollover --help.
func (issuerRolloverCmd) Help() string {
	return `A new key needs a new name, so an authority is replaced by a successor. The plan is shown first. Every step starts from what
exists, so the same command continues where it stopped, and does nothing when everything is done.

A root: its successor is created, and each signs the other, so that clients with either root verify everything. If the root was
revoked, or its key blocked, neither signs the other: clients have to be given the new one. While it is on hold nothing is done.
Then roll over the authorities below it, with --parent.

An authority below a root: its successor is created with the same name constraints and path length, and then the old one stops
issuing (disabled). Its lists and OCSP continue, and certificates that it issued are not affected. Profiles that name the old
one delay that step. Requests that name no issuer are served without interruption: by the old one until it stops, and from then
on by its successor.

If several instances run, one of them makes the new key, and an instance without the key issues nothing once the old authority
stops. So that step requires a confirmation of its own, whatever --yes says. Without a terminal it waits (exit 10): copy the key,
and repeat the command with --keys-are-there.

Examples:
  signet issuer rollover issuing --plan
  signet issuer rollover issuing
  signet issuer rollover root --yes
  signet issuer rollover issuing --parent root-2 --yes
  signet issuer rollover issuing --parent root-2 --yes --keys-are-there`
}

// Run shows the plan, asks for confirmation, and executes it.
func (c *issuerRolloverCmd) Run(a *app) error {
	const op = "roll issuer over"
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	spec, err := c.spec(a, api)
	if err != nil {
		return err
	}
	r, err := rollover.Look(a.ctx, api, spec, time.Now())
	if err != nil {
		return err
	}
	if c.Plan {
		return a.show(planOf(r), func(p *printer) { printRollover(p, r) })
	}
	if !a.json {
		printRollover(a.printer(), r)
	}
	if err := a.sure(op, c.Yes || r.Next() == nil, "Do this?"); err != nil {
		return err
	}
	for step := r.Next(); step != nil; step = r.Next() {
		if a.sure(op, c.KeysAreThere || step.Question == "", step.Question) != nil {
			step.Waits = step.Unless
			break
		}
		if err := step.Do(a.ctx); err != nil {
			return fmt.Errorf("step %q: %w", step.What, err)
		}
		a.note("done: %s", step.What)
		if r, err = rollover.Look(a.ctx, api, spec, time.Now()); err != nil {
			return err
		}
	}
	if r.Successor.State == client.IssuerPending && len(r.Successor.CSRPEM) > 0 {
		if err := writeFile(r.CSRFile(), r.Successor.CSRPEM); err != nil {
			return err
		}
	}
	if err := a.show(planOf(r), func(p *printer) { printRolledOver(p, r) }); err != nil {
		return err
	}
	if why := r.Waiting(); why != "" {
		return answerNo(why)
	}
	return nil
}

// spec returns what the flags ask for, with the ids of the CAs that they name.
func (c *issuerRolloverCmd) spec(a *app, api *client.Client) (s rollover.Spec, err error) {
	s = rollover.Spec{
		Label: c.Label, CommonName: c.CommonName, KeyAlgorithm: c.KeyAlgorithm, CSR: c.CSR,
		Lifetime: time.Duration(c.Lifetime), Overlap: time.Duration(c.Overlap),
	}
	if s.Issuer, err = findIssuer(a, api, c.Issuer); err != nil {
		return s, err
	}
	s.Parent, err = optionalIssuer(a, api, c.Parent)
	return s, err
}

// rolloverPlan is what --output json prints.
type rolloverPlan struct {
	Issuer    string          `json:"issuer"`
	Broken    string          `json:"broken,omitempty"` // why the two roots do not sign each other
	Successor string          `json:"successor"`
	Steps     []rollover.Step `json:"steps"`
	Done      bool            `json:"done"`
	InForce   uint64          `json:"in_force"`
	Own       uint64          `json:"in_force_own"`
	Retire    string          `json:"retire_by"`
}

func planOf(r *rollover.Rollover) rolloverPlan {
	return rolloverPlan{r.Old.Label, r.Broken, r.Created.Label, r.Steps, r.Next() == nil && r.Waiting() == "", r.InForce, r.Own, r.Old.NotAfter.UTC().Format(time.RFC3339)}
}

// printRollover shows the plan.
func printRollover(p *printer, r *rollover.Rollover) {
	p.line("%s gives way to %s", r.Old.Label, r.Created.Label)
	if r.Broken != "" {
		p.line("  %s: %s. So neither is to sign the other: clients verify nothing of %s until they have it.", r.Old.Label, r.Broken, r.Created.Label)
	}
	var rows [][]string
	for i, s := range r.Steps {
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
	if why := r.Waiting(); why != "" {
		p.line("  waits for %s", why)
	}
}

// printRolledOver shows the state, and the next step.
func printRolledOver(p *printer, r *rollover.Rollover) {
	if r.Waiting() != "" {
		printRollover(p, r)
		p.next("signet issuer rollover %s again, to go on", r.Old.Label)
		return
	}
	p.line("%s has taken over from %s", r.Successor.Label, r.Old.Label)
	if r.Bundle != nil {
		var rows [][]string
		for _, path := range r.Bundle.Paths {
			rows = append(rows, []string{path.NotBefore.UTC().Format(time.DateOnly), path.NotAfter.UTC().Format(time.DateOnly), strings.Join(path.Subjects, " < ")})
		}
		p.table([]string{"FROM", "UNTIL", "WAY"}, rows)
	}
	end := r.Old.NotAfter.UTC().Format(time.DateOnly)
	if r.Broken != "" {
		p.line("  %s: %s. Clients have to trust %s, and no longer %s.", r.Old.Label, r.Broken, r.Successor.Label, r.Old.Label)
		p.next("hand out signet issuer bundle %s --roots > trust.pem; signet issuer rollover AUTHORITY --parent %s for each that is below it; make a backup", r.Successor.Label, r.Successor.Label)
		return
	}
	if r.Old.Root {
		p.line("  %s ends on %s. It may be retired when every client trusts %s, and nothing below it issues.", r.Old.Label, end, r.Successor.Label)
		p.next("hand out signet issuer bundle %s --roots > trust.pem; then signet issuer rollover AUTHORITY --parent %s for each that is below it; make a backup", r.Successor.Label, r.Successor.Label)
		return
	}
	p.line("  Certificates of %s in force: %d, and %d of Signet's own, which it replaces by itself. It may be retired when there is none: by %s at the latest.",
		r.Old.Label, r.InForce, r.Own, end)
	switch {
	case r.InForce == 0 && r.Own == 0:
		p.next("signet issuer state %s retired; make a backup, which holds the new key", r.Old.Label)
	case r.InForce == 0:
		p.next("make a backup, which holds the new key; later signet list --issuer %s --standing valid --system", r.Old.Label)
	default:
		p.next("make a backup, which holds the new key; later signet list --issuer %s --standing valid", r.Old.Label)
	}
}
