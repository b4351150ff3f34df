package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type jobCmd struct {
	Plan   jobPlanCmd   `cmd:"" help:"Show what a mass revocation would do, and revoke nothing."`
	Start  jobStartCmd  `cmd:"" help:"Start a planned mass revocation."`
	Pause  jobPauseCmd  `cmd:"" help:"Pause a mass revocation."`
	Resume jobResumeCmd `cmd:"" help:"Resume a mass revocation."`
	Cancel jobCancelCmd `cmd:"" help:"Cancel a mass revocation; what is revoked stays revoked."`
	Show   jobShowCmd   `cmd:"" help:"Show the progress of a mass revocation."`
	List   jobListCmd   `cmd:"" help:"List mass revocations, newest first."`
}

type jobPlanCmd struct {
	Where string `placeholder:"CONDITION" help:"Which certificates: \"profile=server and issued>=2026-11-01\"."`
	serialFlags
	Reason  string  `short:"r" default:"unspecified" help:"Why."`
	LostAt  instant `placeholder:"TIME" help:"Since when the keys may have been compromised."`
	Comment string  `placeholder:"TEXT" help:"What happened; it is kept."`
	serverFlags
}

func (jobPlanCmd) Help() string {
	return `Conditions are joined by "and": issuer= (its label or id), under= (an issuer and those below it), profile=, account=, name= (may be
repeated: any of them), key= (SHA-256 of the SubjectPublicKeyInfo), epoch= (week of expiry), index>=, index<, issued>=, issued<, expires>=,
expires<, or the word everything. A file of serial numbers may name some that the server does not know: the plan counts them and names the first.

Examples:
  signet job plan --where "profile=server and issued>=2026-11-01" --reason superseded
  signet job plan --where "under=root and expires<2026-12-01" --reason cessationOfOperation
  signet job plan --serials incident.txt --issuer issuing --reason superseded
  signet job start JOB`
}

// Run plans a job.
func (c *jobPlanCmd) Run(a *app) error {
	reason, err := pki.ParseReason(c.Reason)
	if err != nil {
		return (&pki.Error{Kind: pki.KindInvalid, Op: "plan job", Err: err}).InField("--reason")
	}
	if err := c.only("plan job", "--where", c.Where); err != nil {
		return err
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	selector, err := c.selector(a, api, c.Where)
	if err != nil {
		return err
	}
	plan, err := api.PlanJob(a.ctx, client.JobRequest{Selector: selector, Reason: reason, InvalidityAt: c.LostAt.Time, Comment: c.Comment})
	if err != nil {
		return err
	}
	return a.show(plan, func(p *printer) {
		printPlan(p, plan, c.Where)
		if plan.Job.Selected == 0 {
			p.step(cmp.Or(domainMeant(c.Where), "look at the condition: signet list shows what there is"))
			return
		}
		p.next("signet job start %s", plan.Job.ID)
	})
}

// printPlan prints what a job would do, and its cost.
func printPlan(p *printer, plan *client.Plan, where string) {
	p.line("%s would be revoked, %s; nothing was revoked yet", counted(plan.Job.Selected-plan.AlreadyRevoked, "certificate"), plan.Job.Reason)
	if plan.Job.Reason == pki.KeyCompromise && plan.AlreadyRevoked > 0 {
		p.line("  Revoked already: %d; there the reason becomes keyCompromise, unless it is.", plan.AlreadyRevoked)
	}
	if meant := domainMeant(where); meant != "" && plan.Job.Selected > 0 {
		p.line("  Careful: %s", meant)
	}
	if plan.Job.Authorities > 0 {
		p.line("  %s", strings.TrimSpace(authoritiesSelected(&plan.Job)))
	}
	if plan.Expired > 0 {
		p.line("  Listed, and expired: %d; they are left alone.", plan.Expired)
	}
	if plan.Unknown > 0 {
		some := ""
		if plan.Unknown > uint64(len(plan.UnknownCertificates)) {
			some = ", among others"
		}
		p.line("  Listed, and not known to the server: %d: %s%s.", plan.Unknown, strings.Join(texts(plan.UnknownCertificates), ", "), some)
	}
	p.fields("job", plan.Job.ID, "revoked before", fmt.Sprint(plan.AlreadyRevoked), "CRLs grow by", sizeText(int64(plan.CRLGrowth)), "takes about", plan.Takes.Round(time.Second).String())
}

// domainMeant says what a condition name=*.DOMAIN does not select, and how to select that; "" if there is no such
// condition.
func domainMeant(where string) string {
	for _, word := range strings.FieldsFunc(where, func(r rune) bool { return strings.ContainsRune(` "=`, r) }) {
		if domain, wildcard := strings.CutPrefix(strings.TrimPrefix(strings.ToLower(word), "dns:"), "*."); wildcard {
			return fmt.Sprintf("name=*.%s is the name with the asterisk alone; what is below %s: signet list --under %s --export csv | signet revoke --serials -", domain, domain, shellWord(domain))
		}
	}
	return ""
}

// authoritiesSelected says how many of the selected certificates are CA certificates; "" if none is.
func authoritiesSelected(job *client.Job) string {
	if job.Authorities == 0 {
		return ""
	}
	return fmt.Sprintf("Authorities among %s: %d. Nothing below an authority stays valid. ", counted(job.Selected, "certificate"), job.Authorities)
}

// followJob shows the progress of a job until it is done. It returns an error if the job ended in another way or is
// paused. Interrupting it does not stop the job.
func (a *app) followJob(api *client.Client, id string) (*client.Job, error) {
	var bar *progress
	seen := uint64(0)
	for {
		job, err := api.Job(a.ctx, id)
		if err != nil {
			return nil, pki.Errorf(pki.KindOf(err), "follow job", "%w", err).
				WithHint("the job goes on: signet job show %s, signet job pause %s", id, id)
		}
		if bar == nil {
			// The certificates of a blocked key were not counted.
			bar = a.progress("revocations", func() int { return cmp.Or(int(job.Selected), -1) })
			defer bar.done()
		}
		now := job.Revoked + job.Skipped
		bar.add(int(now - seen))
		seen = now
		unfinished := func(format string, args ...any) *pki.Error {
			return pki.Errorf(pki.KindFailedPrecondition, "follow job", format+"; %d of %d are done", append(args, now, job.Selected)...)
		}
		switch job.State {
		case client.JobDone:
			return job, nil
		case client.JobFailed:
			return nil, unfinished("it failed: %s", job.Failure).
				WithHint("what it revoked stays revoked; for the rest: signet job resume %s, or signet job cancel %s", id, id)
		case client.JobPaused:
			return nil, unfinished("it was paused").
				WithHint("what it revoked stays revoked; for the rest: signet job resume %s, or signet job cancel %s", id, id)
		case client.JobCancelled:
			return nil, unfinished("it was cancelled").WithHint("what it revoked stays revoked; for the rest: signet job plan")
		}
		select {
		case <-a.ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// awaitJob waits until every live instance has published a job's revocations, however long that takes. It repeats the
// call, which has a time limit.
func (a *app) awaitJob(api *client.Client, id string) (*client.Job, error) {
	bar := a.progress("published", func() int { return -1 })
	defer bar.done()
	for {
		job, err := api.AwaitJobPublished(a.ctx, id)
		if err != nil {
			return nil, pki.Errorf(pki.KindOf(err), "await publication", "%w", err).
				WithHint("what was revoked is revoked; to wait on: signet job show %s --wait", id)
		}
		if !job.PublishedAt.IsZero() {
			return job, nil
		}
		bar.add(1)
	}
}

// jobRef names a job.
type jobRef struct {
	Job string `arg:"" help:"Id of the job."`
	serverFlags
}

// call makes one call about the job and shows its state.
func (r jobRef) call(a *app, call func(*client.Client) (*client.Job, error)) error {
	api, err := a.connect(r.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	job, err := call(api)
	if err != nil {
		return err
	}
	return a.show(job, func(p *printer) {
		authorities := ""
		if job.Authorities > 0 {
			authorities = fmt.Sprint(job.Authorities)
		}
		p.line("job %s is %s", job.ID, job.State)
		p.fields("reason", job.Reason.String(), "selected", fmt.Sprint(job.Selected), "authorities", authorities, "revoked", fmt.Sprint(job.Revoked), "skipped", fmt.Sprint(job.Skipped),
			"to go", lasts(job.Remaining), "by", job.Actor, "planned", on(job.PlannedAt), "started", on(job.StartedAt), "ended", on(job.EndedAt), "published", on(job.PublishedAt), "failure", job.Failure)
		if job.State == client.JobPlanned {
			p.next("signet job start %s --wait      or: signet job cancel %s", job.ID, job.ID)
		} else if !job.State.Ended() {
			p.next("signet job show %s", job.ID)
		}
	})
}

// lasts returns an estimate for people; "" if there is none.
func lasts(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return max(time.Second, d.Round(time.Second)).String()
}

type jobStartCmd struct {
	jobRef
	Yes  bool `help:"Start it without confirmation, even if it selected authorities."`
	Wait bool `help:"Show its progress, and return when it ends."`
}

func (jobStartCmd) Help() string {
	return `If a job selected certificates of authorities, starting it requires confirmation or --yes: nothing below them stays valid.

Examples:
  signet job start JOB
  signet job start JOB --wait`
}

// Run starts a job.
func (c *jobStartCmd) Run(a *app) error {
	return c.call(a, func(api *client.Client) (*client.Job, error) {
		planned, err := api.Job(a.ctx, c.Job)
		if err != nil {
			return nil, err
		}
		asks := planned.State == client.JobPlanned && planned.Authorities > 0
		if err := a.sure("start job", c.Yes || !asks, authoritiesSelected(planned)+"Revoke what was selected, for good?"); err != nil {
			return nil, err
		}
		job, err := api.StartJob(a.ctx, c.Job, planned.Authorities)
		if err != nil || !c.Wait {
			return job, err
		}
		return a.followJob(api, c.Job)
	})
}

type jobPauseCmd struct{ jobRef }

func (jobPauseCmd) Help() string { return "Examples:\n  signet job pause JOB" }

// Run pauses a job.
func (c *jobPauseCmd) Run(a *app) error {
	return c.call(a, func(api *client.Client) (*client.Job, error) { return api.PauseJob(a.ctx, c.Job) })
}

type jobResumeCmd struct{ jobRef }

func (jobResumeCmd) Help() string { return "Examples:\n  signet job resume JOB" }

// Run resumes a job.
func (c *jobResumeCmd) Run(a *app) error {
	return c.call(a, func(api *client.Client) (*client.Job, error) { return api.ResumeJob(a.ctx, c.Job) })
}

type jobCancelCmd struct{ jobRef }

func (jobCancelCmd) Help() string { return "Examples:\n  signet job cancel JOB" }

// Run cancels a job.
func (c *jobCancelCmd) Run(a *app) error {
	return c.call(a, func(api *client.Client) (*client.Job, error) { return api.CancelJob(a.ctx, c.Job) })
}

type jobShowCmd struct {
	jobRef
	Wait bool `help:"Show its progress, and return when it has ended and every instance has published what it revoked."`
}

func (jobShowCmd) Help() string {
	return "Examples:\n  signet job show JOB\n  signet job show JOB --wait"
}

// Run shows a job.
func (c *jobShowCmd) Run(a *app) error {
	return c.call(a, func(api *client.Client) (*client.Job, error) {
		job, err := api.Job(a.ctx, c.Job)
		if err != nil || !c.Wait || job.State == client.JobPlanned {
			return job, err
		}
		if _, err := a.followJob(api, c.Job); err != nil {
			return nil, err
		}
		return a.awaitJob(api, c.Job)
	})
}

type jobListCmd struct {
	Plans bool   `help:"Also show plans that were never started, and those that were cancelled."`
	Limit int    `short:"n" default:"100" help:"At most this many; 0: all of them."`
	Page  string `placeholder:"TOKEN" help:"Continue from here (nextPageToken of the list before)."`
	serverFlags
}

func (jobListCmd) Help() string {
	return `A plan revokes nothing, and one that is never started may be kept for as long as you like: only --plans shows it.

Examples:
  signet job list
  signet job list --plans`
}

// Run lists jobs.
func (c *jobListCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	jobs, next, err := upTo(c.Limit, c.Page, func(p client.Page) (*client.List[client.Job], error) {
		return api.Jobs(a.ctx, client.JobFilter{Started: !c.Plans}, p)
	})
	if err != nil {
		return err
	}
	return a.show(map[string]any{"jobs": jobs, "nextPageToken": next}, func(p *printer) {
		var rows [][]string
		for _, j := range jobs {
			rows = append(rows, []string{j.ID, j.State.String(), fmt.Sprintf("%d of %d", j.Revoked, j.Selected), j.Reason.String(), on(j.PlannedAt), j.Actor})
		}
		p.table([]string{"JOB", "STATE", "REVOKED", "REASON", "PLANNED", "BY"}, rows)
		p.more(next)
	})
}
