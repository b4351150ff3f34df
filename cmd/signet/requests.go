package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

type requestsCmd struct {
	List    requestsListCmd    `cmd:"" help:"List requests, newest first."`
	Show    requestsShowCmd    `cmd:"" help:"Show what a request asks for."`
	Approve requestsApproveCmd `cmd:"" help:"Approve a request and have its certificate issued."`
	Deny    requestsDenyCmd    `cmd:"" help:"Deny a request, and say why."`
	Collect requestsCollectCmd `cmd:"" help:"Fetch the certificate of a request, once it is issued."`
}

type requestsListCmd struct {
	State   string `placeholder:"STATE" help:"Only pending, approved, issued, denied, refused or expired ones."`
	Profile string `placeholder:"NAME" help:"Only under this profile."`
	Account string `placeholder:"NAME" help:"Only for this account."`
	Limit   int    `short:"n" default:"100" help:"At most this many; 0: all of them."`
	Page    string `placeholder:"TOKEN" help:"Continue from here (nextPageToken of the list before, which had the same conditions)."`
	serverFlags
}

func (requestsListCmd) Help() string {
	return `Administrators and auditors see every request, approvers those of their profiles, requesters those of their account.

Examples:
  signet requests list --state pending
  signet requests list --profile code-signing --account build`
}

// Run lists requests.
func (c *requestsListCmd) Run(a *app) error {
	state, err := client.ParseRequestState(c.State)
	if err != nil {
		return (&pki.Error{Kind: pki.KindInvalid, Op: "list requests", Err: err}).InField("--state").WithHint("signet requests list --help")
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	requests, next, err := upTo(c.Limit, c.Page, func(p client.Page) (*client.List[client.Request], error) {
		return api.Requests(a.ctx, client.RequestFilter{State: state, Profile: c.Profile, Account: c.Account}, p)
	})
	if err != nil {
		return err
	}
	return a.show(map[string]any{"requests": requests, "nextPageToken": next}, func(p *printer) {
		if len(requests) == 0 {
			p.line("no request")
			return
		}
		var rows [][]string
		for _, r := range requests {
			rows = append(rows, []string{r.ID, r.State.String(), r.Profile, r.Account, title(r.Identifiers, r.Subject), on(r.FiledAt)})
		}
		p.table([]string{"REQUEST", "STATE", "PROFILE", "ACCOUNT", "FOR", "FILED"}, rows)
		p.more(next)
	})
}

type requestsShowCmd struct {
	Request string `arg:"" help:"Id of the request."`
	serverFlags
}

func (requestsShowCmd) Help() string { return "Examples:\n  signet requests show REQUEST" }

// Run shows a request.
func (c *requestsShowCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	decided, err := api.Request(a.ctx, c.Request)
	if err != nil {
		return err
	}
	return a.show(decided, func(p *printer) {
		printRequest(p, decided.Request)
		if decided.Request.State == client.RequestPending {
			p.next("signet requests approve %s      or: signet requests deny %s --reason TEXT", decided.Request.ID, decided.Request.ID)
		}
	})
}

// printRequest prints a request, and more pairs of fields.
func printRequest(p *printer, r client.Request, more ...string) {
	p.line("request %s is %s", r.ID, r.State)
	expires, serial := "", ""
	if r.State.Open() {
		expires = on(r.ExpiresAt)
	}
	if !r.Serial.IsZero() {
		serial = r.Serial.String()
	}
	pairs := []string{"profile", r.Profile, "for", title(r.Identifiers, r.Subject), "subject", r.Subject, "key", r.KeyHash.String(), "would end", on(r.NotAfter)}
	for _, e := range r.Extensions {
		critical := ""
		if e.Critical {
			critical = " (critical)"
		}
		pairs = append(pairs, "asks for extension", e.OID+critical+": "+e.Value)
	}
	pairs = append(pairs, "account", r.Account, "requester", r.Requester, "filed", on(r.FiledAt), "expires", expires, "decided", on(r.DecidedAt), "by", r.DecidedBy,
		"comment", r.Comment, "not issued yet", r.Delay, "next try", on(r.NextTryAt), "serial", serial)
	p.fields(append(pairs, more...)...)
}

type requestsApproveCmd struct {
	Request string `arg:"" help:"Id of the request."`
	Comment string `placeholder:"TEXT" help:"Kept with the decision."`
	serverFlags
}

func (requestsApproveCmd) Help() string {
	return `Look at it first: ` + "`signet requests show`" + `. You must have the role approver or admin, and belong to another account than the requester.
Everything is checked again, as profile and policy are now, and then the certificate is issued, once.

Examples:
  signet requests approve REQUEST
  signet requests approve REQUEST --comment "release 7, ticket 1234"`
}

// Run approves a request.
func (c *requestsApproveCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	decided, err := api.ApproveRequest(a.ctx, c.Request, c.Comment)
	if err != nil {
		return err
	}
	if err := a.show(decided, func(p *printer) {
		switch r := decided.Request; r.State {
		case client.RequestIssued:
			p.line("approved; the certificate was issued: serial %s", r.Serial)
			p.server = "" // the requester has a credential of their own
			p.next("its requester runs: signet requests collect %s", r.ID)
		case client.RequestApproved:
			p.line("approved; the certificate will be issued as soon as that is possible")
			if decided.Delay != nil {
				p.fields("now", decided.Delay.Error())
			}
		default:
			p.line("approved, and then refused: %s", r.Comment)
		}
	}); err != nil {
		return err
	}
	if decided.Request.State == client.RequestRefused {
		return answerNo("it was refused")
	}
	return nil
}

type requestsDenyCmd struct {
	Request string `arg:"" help:"Id of the request."`
	Reason  string `required:"" placeholder:"TEXT" help:"Why; the requester reads it."`
	serverFlags
}

func (requestsDenyCmd) Help() string {
	return "Examples:\n  signet requests deny REQUEST --reason \"no such release\""
}

// Run denies a request.
func (c *requestsDenyCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	request, err := api.DenyRequest(a.ctx, c.Request, c.Reason)
	if err != nil {
		return err
	}
	return a.show(request, func(p *printer) { p.line("denied; nothing was issued") })
}

type requestsCollectCmd struct {
	Request string   `arg:"" help:"Id of the request."`
	Out     string   `short:"o" placeholder:"STEM" help:"Write STEM.pem (default: the first name)."`
	Wait    duration `placeholder:"DURATION" help:"How long to wait for the decision, such as 1h."`
	serverFlags
}

func (requestsCollectCmd) Help() string {
	return `The exit status is 10 as long as there is no certificate.

Examples:
  signet requests collect REQUEST
  signet requests collect REQUEST --wait 8h --out release`
}

// Run collects a certificate.
func (c *requestsCollectCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	decided, err := api.Request(a.ctx, c.Request)
	if err != nil {
		return err
	}
	stem := c.Out
	if stem == "" {
		stem = stemOf(decided.Request)
	}
	if _, err := os.Lstat(stem + ".pem"); err == nil && (decided.Issued != nil || decided.Request.State.Open()) {
		return pki.Errorf(pki.KindConflict, "collect certificate", "%s.pem exists already and is not overwritten", stem).
			WithHint("move it away, or choose another file with --out")
	}
	waiting := collector{api: api, path: stem + ".pem"}
	return waiting.collect(a, decided.Request, time.Duration(c.Wait))
}

// stemOf returns the file name for a request, from its first name.
func stemOf(r client.Request) string {
	if len(r.Identifiers) > 0 {
		return fileStem(r.Identifiers[0])
	}
	return fileStem(pki.Identifier{Value: cmp.Or(pki.CommonNameOf(r.Subject), r.Subject)})
}

// collector fetches the certificate for a filed request.
type collector struct {
	api  *client.Client
	path string    // of the certificate to write
	key  *localKey // nil: it is elsewhere
}

// The intervals between queries for a decision, at first and at most.
const (
	firstPoll = 250 * time.Millisecond
	lastPoll  = 15 * time.Second
)

// collect waits for the decision, if requested, and writes the certificate.
func (c *collector) collect(a *app, r client.Request, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(a.ctx, wait)
	defer cancel()
	if r.State.Open() && wait > 0 {
		a.note("request %s waits for an approval; waiting %s for it", r.ID, wait)
	}
	decided, err := c.await(a.ctx, ctx, r.ID)
	if err != nil {
		return err
	}
	if decided.Issued == nil {
		return c.without(a, decided.Request)
	}
	if err := durable.WriteNew(c.path, decided.Issued.PEM, 0o644); err != nil {
		return errors.Join(err, pki.Errorf(pki.KindConflict, "collect certificate", "certificate %s was issued, and is not in a file", decided.Issued.Certificate.Serial).
			WithHint("signet show --pem %s", decided.Issued.Certificate.Serial))
	}
	return reportIssued(a, decided.Issued, c.key, c.path)
}

// await asks until the request's state is final or the wait is over.
func (c *collector) await(ctx, wait context.Context, id string) (*client.Decided, error) {
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		decided, err := c.api.Request(ctx, id)
		if err != nil && (pki.KindOf(err) != pki.KindUnavailable || wait.Err() != nil) {
			return nil, err
		}
		if err == nil && !decided.Request.State.Open() {
			return decided, nil
		}
		select {
		case <-time.After(pause):
			continue
		case <-wait.Done():
		}
		if ctx.Err() != nil || err != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		return decided, nil
	}
}

// pendingResult is what is printed as JSON if there is no certificate yet, or never will be.
type pendingResult struct {
	Request client.Request `json:"request"`            // as GET /v1/requests/{request} answers
	KeyFile string         `json:"key_file,omitempty"` // path of the private key, kept for it
}

// without says why there is no certificate.
func (c *collector) without(a *app, r client.Request) error {
	result := pendingResult{Request: r}
	if c.key != nil {
		result.KeyFile = c.key.path
	}
	stem := strings.TrimSuffix(c.path, ".pem")
	if err := a.show(result, func(p *printer) {
		key := ""
		if c.key != nil {
			key = describeKey(c.key)
		}
		printRequest(p, r, "private key", key)
		if r.State.Open() {
			p.next("signet requests collect %s --out %s --wait 8h", r.ID, stem)
		}
	}); err != nil {
		return err
	}
	return answerNo("there is no certificate")
}
