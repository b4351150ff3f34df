package approval

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// Config configures a Desk.
type Config struct {
	Authority   *ca.Authority // required
	Store       Store         // required
	Archive     Archive       // required
	Credentials Credentials   // required
	Audit       ca.AuditStore // required

	Expires    time.Duration // how long a request waits for a decision, and an approved one to be issued; zero: 7 days
	Keep       time.Duration // how long a decided or expired request can be read; zero: 30 days
	PerAccount int           // maximum of pending requests of one account; zero: 100
	Total      int           // maximum of pending requests; zero: 10,000

	// Claim is how long one instance alone may issue an approved request. If that instance dies, another takes over
	// afterwards. Zero: one minute.
	Claim time.Duration

	Pause time.Duration    // longest time between two attempts to issue an approved request; zero: 15 minutes
	Now   func() time.Time // nil: time.Now
}

// maxComment bounds the comment on a decision, in octets.
const maxComment = 1000

// Desk files requests and decides them. It is safe for concurrent use, by any number of instances on one database.
type Desk struct {
	config   Config
	failures failures
}

// New makes a Desk. It returns an error of KindInternal if a required field of c is nil.
func New(c Config) (*Desk, error) {
	if c.Authority == nil || c.Store == nil || c.Archive == nil || c.Credentials == nil || c.Audit == nil {
		return nil, pki.Errorf(pki.KindInternal, "make approval desk", "Authority, Store, Archive, Credentials and Audit are required")
	}
	c.Expires = cmp.Or(c.Expires, 7*24*time.Hour)
	c.Keep = cmp.Or(c.Keep, 30*24*time.Hour)
	c.PerAccount = cmp.Or(c.PerAccount, 100)
	c.Total = cmp.Or(c.Total, 10_000)
	c.Claim = cmp.Or(c.Claim, time.Minute)
	c.Pause = cmp.Or(c.Pause, 15*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Desk{config: c, failures: failures{last: make(map[ca.ApprovalID]failure)}}, nil
}

// Answer is the immediate outcome of a request.
type Answer struct {
	Issued *ca.Issued   // nil: no certificate yet
	Filed  *Application // nil: the request needed no approval
	Delay  error        // why an approved request could not be issued at once; it will be tried again
}

// Issue issues the certificate if the profile needs no approval, and files the request if it does. A request whose id
// was used before is answered with the outcome of the earlier one. The grant is as for ca.Authority.Issue.
func (d *Desk) Issue(ctx context.Context, grant auth.Grant, request ca.Request) (Answer, error) {
	needed, err := d.config.Authority.NeedsApproval(request.Profile)
	if err != nil || !needed {
		issued, err := d.config.Authority.Issue(ctx, grant, request) // which audits the refusal
		return Answer{Issued: issued}, err
	}
	return d.file(ctx, grant, request)
}

func (d *Desk) file(ctx context.Context, grant auth.Grant, request ca.Request) (Answer, error) {
	before, err := d.config.Authority.Answered(ctx, grant, request)
	if err != nil {
		return Answer{}, err
	}
	if before != nil {
		return d.repeated(ctx, *before)
	}
	trial, err := d.config.Authority.Check(ctx, grant, request) // approvers see only requests that could be issued
	if err != nil {
		return Answer{}, err
	}
	p := grant.Principal()
	now := d.config.Now().UTC().Truncate(time.Microsecond)
	a := Application{ID: newID(now), State: Pending, Request: request, Requester: p, Trial: trial, FiledAt: now}
	event := eventOf(p, "request.file", a.ID, now)
	event.Detail = map[string]string{"profile": request.Profile, "account": p.Account, "key": trial.KeyHash.String(), "names": namesText(trial.Names)}
	filed, err := d.config.Store.File(ctx, a, d.config.Expires, Bounds{d.config.PerAccount, d.config.Total}, event)
	if err != nil && pki.KindOf(err) == pki.KindConflict { // the same request id at the same time, elsewhere
		if before, err := d.config.Authority.Answered(ctx, grant, request); before != nil || err != nil {
			if err != nil {
				return Answer{}, err
			}
			return d.repeated(ctx, *before)
		}
	}
	if err != nil {
		return Answer{}, err
	}
	return Answer{Filed: &filed}, nil
}

// repeated answers a request whose request id was used before.
func (d *Desk) repeated(ctx context.Context, before ca.Answered) (Answer, error) {
	if before.Approval.IsZero() { // the profile needed no approval then
		issued, err := d.certificateOf(ctx, before.Certificate.Account, before.Certificate.Issuer, before.Certificate.Serial)
		if err == nil {
			issued.Repeated = true
		}
		return Answer{Issued: issued}, err
	}
	filed, err := d.config.Store.Application(ctx, before.Approval)
	if err != nil {
		return Answer{}, err
	}
	answer, err := d.answer(ctx, &filed)
	if answer.Issued != nil {
		answer.Issued.Repeated = true
	}
	return answer, err
}

// answer returns the certificate of an issued application, and an error for one that can no longer be issued.
func (d *Desk) answer(ctx context.Context, a *Application) (Answer, error) {
	const op = "issue certificate"
	switch a.State {
	case Issued:
		issued, err := d.certificate(ctx, a)
		return Answer{Issued: issued, Filed: a}, err
	case Pending, Approved:
		return Answer{Filed: a}, nil
	case Denied:
		return Answer{Filed: a}, pki.Errorf(pki.KindRefused, op, "request %s was denied: %s", a.ID, a.Comment).InField("request_id").
			WithHint("ask the approvers, and file a new request with a new id")
	case Refused:
		return Answer{Filed: a}, pki.Errorf(pki.KindRefused, op, "request %s was approved, and then refused: %s", a.ID, a.Comment).InField("request_id").
			WithHint("correct the cause, and file a new request with a new id")
	}
	return Answer{Filed: a}, pki.Errorf(pki.KindFailedPrecondition, op, "request %s expired at %s", a.ID, a.ExpiresAt.Format(time.RFC3339)).
		InField("request_id").WithHint("file a new request with a new id")
}

// certificate reads the certificate of an issued application.
func (d *Desk) certificate(ctx context.Context, a *Application) (*ca.Issued, error) {
	return d.certificateOf(ctx, a.Requester.Account, a.Issuer, a.Serial)
}

func (d *Desk) certificateOf(ctx context.Context, account string, issuer pki.IssuerID, serial pki.Serial) (*ca.Issued, error) {
	grant, err := auth.System("approval").Authorize(auth.ActionRead, account)
	if err != nil {
		return nil, err
	}
	return d.config.Authority.Get(ctx, grant, issuer, serial)
}

// Get returns one application, with its certificate if one was issued and the inventory still holds it. The grant must
// allow approving for its profile or reading its account; with any other the error is of KindNotFound.
func (d *Desk) Get(ctx context.Context, grant auth.Grant, id ca.ApprovalID) (Answer, error) {
	a, err := d.find(ctx, "get request", grant, id)
	if err != nil || a.State != Issued {
		return Answer{Filed: &a}, err
	}
	issued, err := d.certificate(ctx, &a)
	if pki.KindOf(err) == pki.KindNotFound && err != nil {
		err = nil
	}
	return Answer{Issued: issued, Filed: &a}, err
}

func (d *Desk) find(ctx context.Context, op string, grant auth.Grant, id ca.ApprovalID) (Application, error) {
	absent := pki.Errorf(pki.KindNotFound, op, "there is no request %s", id).InField("request").WithHint("signet requests list")
	a, err := d.config.Store.Application(ctx, id)
	if err != nil {
		if pki.KindOf(err) == pki.KindNotFound {
			err = absent
		}
		return Application{}, err
	}
	if !grant.Allows(auth.ActionApprove, a.Request.Profile) && !grant.Allows(auth.ActionRead, a.Requester.Account) {
		return Application{}, absent
	}
	return a, nil
}

// List returns a page of at most limit applications (1 to 1,000; zero: 100) after a cursor (empty: from the newest). A
// grant to read covers its account, a grant to approve its profile. A filter that selects more is refused
// (KindDenied).
func (d *Desk) List(ctx context.Context, grant auth.Grant, filter Filter, cursor string, limit int) (Page, error) {
	const op = "list requests"
	limit = cmp.Or(limit, 100)
	if limit < 0 || limit > 1000 {
		return Page{}, pki.Errorf(pki.KindInvalid, op, "want 1 to 1,000").InField("limit").WithHint("ask for a page of 1 to 1,000")
	}
	if len(filter.Profiles) == 0 {
		filter.Profiles = grant.Scopes()
	}
	if !mayRead(grant, filter) {
		return Page{}, pki.Errorf(pki.KindDenied, op, "%s may not read these requests", grant.Principal().ID).
			WithHint("name your own account, or a profile that you approve for")
	}
	var before ca.ApprovalID
	if cursor != "" {
		var err error
		if before, err = ca.ParseApprovalID(cursor); err != nil {
			return Page{}, pki.Errorf(pki.KindInvalid, op, "this is no page token").InField("page_token").WithHint("begin again without a page token")
		}
	}
	found, err := d.config.Store.Applications(ctx, filter, before, limit+1)
	if err != nil || len(found) <= limit {
		return Page{Applications: found}, err
	}
	return Page{Applications: found[:limit], Next: found[limit-1].ID.String()}, nil
}

// mayRead reports whether a grant covers everything that a filter selects.
func mayRead(grant auth.Grant, filter Filter) bool {
	if grant.All() {
		return grant.Allows(auth.ActionApprove, "") || grant.Allows(auth.ActionRead, "")
	}
	if filter.Account != "" && grant.Allows(auth.ActionRead, filter.Account) {
		return true
	}
	for _, name := range filter.Profiles {
		if !grant.Allows(auth.ActionApprove, name) {
			return false
		}
	}
	return len(filter.Profiles) > 0
}

// newID returns an id that sorts by time: 6 octets of Unix milliseconds, then 10 random octets, so that it cannot be
// guessed.
func newID(now time.Time) (id ca.ApprovalID) {
	var millis [8]byte
	binary.BigEndian.PutUint64(millis[:], uint64(now.UnixMilli()))
	copy(id[:6], millis[2:])
	rand.Read(id[6:]) // never fails (crypto/rand)
	return id
}

func eventOf(p auth.Principal, action string, id ca.ApprovalID, now time.Time) audit.Event {
	return audit.Event{At: now, Actor: p.ID, Action: action, Target: "request/" + id.String(), Outcome: audit.OK, RequestID: p.RequestID, Source: p.Source}
}

// namesText lists at most ten names for people to read, because an audit event is bounded.
func namesText(names []pki.Identifier) string {
	texts := make([]string, 0, min(len(names), 10))
	for _, name := range names[:min(len(names), 10)] {
		texts = append(texts, name.String())
	}
	if len(names) > 10 {
		texts = append(texts, "…")
	}
	return strings.Join(texts, " ")
}
