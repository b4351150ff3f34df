package main

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type revokeCmd struct {
	Certificate string `arg:"" optional:"" help:"A certificate file (- for standard input), a serial number, or ISSUER/SERIAL."`
	Where       string `placeholder:"CONDITION" help:"Instead of one certificate all that match: \"profile=server and issued>=2026-11-01\". It first shows what would be revoked."`
	serialFlags
	Yes    bool    `help:"Revoke without confirmation: what --where or --serials select, or an authority."`
	Reason string  `short:"r" default:"unspecified" help:"unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or aACompromise."`
	LostAt instant `placeholder:"TIME" help:"When the key is known or suspected to have been lost (invalidity date)."`
	Wait   bool    `help:"Return only when every instance has published it, or everything with --where or --serials, in CRL and OCSP."`
	serverFlags
}

func (revokeCmd) Help() string {
	return `Revoking is for good; to suspend a certificate use "signet hold". Repeating it changes nothing and succeeds. The reason
can later be changed to keyCompromise, and to nothing else.

An agent ("signet agent") that has a token replaces a certificate that was revoked for unspecified, superseded or keyCompromise
(then with a new key), and gets none after any other reason. To take a certificate away from a machine, give
cessationOfOperation, privilegeWithdrawn or affiliationChanged, and disable the agent's token.

With --where a job revokes everything that matches, with --serials everything that a file lists. It is planned first. Before it
revokes more than one certificate, it asks for confirmation; without a terminal it stops there unless --yes is given. The job
continues if this command is stopped: "signet job show JOB --wait" waits for it, "signet job list" shows it, "signet job pause JOB"
and "signet job cancel JOB" stop it; "signet job plan" only plans one.
Certificates of this server itself (its authorities, OCSP responders, API) are left alone unless they are named: by file or serial
number, or with key=, account=system or profile=issuing-ca. Exit status 4: nothing matches.

To revoke the certificate of an authority, confirmation or --yes is required: nothing below it stays valid. The same holds for a
certificate that the server does not know, and for authorities that --where or --serials select.

Examples:
  signet revoke app.example.pem --reason superseded
  signet revoke 41aa... --reason keyCompromise --lost-at 2026-11-16 --wait
  signet revoke --where "profile=server and issued>=2026-11-01" --reason superseded
  signet revoke --where "account=web" --reason cessationOfOperation --yes --wait
  signet revoke --serials incident.txt --issuer issuing --reason superseded
  signet revoke --where "under=issuing and expires>=2026-12-01" --reason cessationOfOperation`
}

// Run revokes one certificate, or by a job those that a condition selects.
func (c *revokeCmd) Run(a *app) error {
	reason, err := pki.ParseReason(c.Reason)
	if err != nil {
		return (&pki.Error{Kind: pki.KindInvalid, Op: "revoke certificate", Err: err}).InField("--reason")
	}
	if reason == pki.CertificateHold {
		return pki.Errorf(pki.KindInvalid, "revoke certificate", "a hold is not a revocation").InField("--reason").
			WithHint("signet hold %s", c.Certificate)
	}
	if err := c.only("revoke certificate", "a certificate, --where", c.Certificate, c.Where); err != nil {
		return err
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if c.Certificate == "" {
		return c.runJob(a, api, reason)
	}
	request, err := c.request(a, api)
	if err != nil {
		return err
	}
	question, err := doubt(a, api, request)
	if err == nil && question != "" {
		err = a.sure("revoke certificate", c.Yes, question+" Revoke it, for good?")
	}
	if err != nil {
		return err
	}
	request.Reason, request.InvalidityAt, request.WaitPublished = reason, c.LostAt.Time, c.Wait
	change, err := api.Revoke(a.ctx, request)
	if err != nil {
		return err
	}
	if err := a.show(change, func(p *printer) {
		verb := "revoked"
		if change.Repeated {
			verb = "was revoked already:"
		}
		p.line("%s certificate %s of issuer %s", verb, change.Serial, change.Issuer)
		revocationFields(p, change.Revocation)
		if issuer, err := api.Issuer(a.ctx, change.Issuer); err == nil && !issuer.Online {
			p.line("  It is durable. The key of issuer %s is off-line: others see it when a ceremony has signed a list with it.", issuer.Label)
			p.next("signet ceremony crl --revoke %s=%s on its machine, then signet crl import --issuer %s FILE", change.Serial, reason, issuer.Label)
			return
		}
		printPublished(p, change.PublishedAt)
		if change.IssuedElsewhere {
			p.line("  It was never issued here, and its issuer's key signed it: unless that was before the key came here, the key is in other hands.")
			p.line("  Then revoke the certificate of the issuer itself for cACompromise, and replace it with signet issuer rollover.")
		}
		p.next("signet status %s", c.Certificate)
	}); err != nil {
		return err
	}
	return unpublished(c.Wait, change.Sequence, change.PublishedAt)
}

// unpublished returns the error of waiting in vain for publication: the change itself is permanent.
func unpublished(waited bool, sequence uint64, publishedAt time.Time) error {
	if !waited || !publishedAt.IsZero() {
		return nil
	}
	return pki.Errorf(pki.KindUnavailable, "await publication", "entry %d is durable, and not published everywhere yet", sequence).
		WithHint("the same command again changes nothing and continues to wait; /readyz of each instance says what is late")
}

// request names the certificate by the file itself, or by issuer and serial.
func (c *revokeCmd) request(a *app, api *client.Client) (client.RevokeRequest, error) {
	ref := certificateRef{c.Certificate}
	certificate, err := ref.der(a)
	if err != nil {
		return client.RevokeRequest{}, err
	}
	if certificate != nil {
		return client.RevokeRequest{Certificate: certificate.Raw}, nil
	}
	issuer, serial, err := ref.key(a, api, "revoke certificate")
	return client.RevokeRequest{Issuer: issuer, Serial: serial}, err
}

// key returns the issuer and the serial number of the certificate. ISSUER/SERIAL needs no query: the certificate may
// have been issued by another program.
func (r certificateRef) key(a *app, api *client.Client, op string) (id pki.IssuerID, number pki.Serial, err error) {
	certificate, err := r.der(a)
	if err != nil {
		return id, number, err
	}
	issuer, serial, both := strings.Cut(r.Certificate, "/")
	if certificate != nil || !both {
		found, err := r.find(a, api)
		if err != nil {
			return id, number, err
		}
		return found.Issuer, found.Serial, nil
	}
	if number, err = pki.ParseSerial(serial); err != nil {
		if isPath(r.Certificate) {
			return id, number, pki.Errorf(pki.KindNotFound, op, "there is no file %s", r.Certificate)
		}
		return id, number, pki.Errorf(pki.KindInvalid, op, "%q is neither a file here nor ISSUER/SERIAL: %w", r.Certificate, err)
	}
	id, err = findIssuer(a, api, issuer)
	return id, number, err
}

// doubt returns why a person is asked before a certificate is revoked; "" if there is no reason. The reason is that it
// is a CA certificate, or may be, because it is unknown here.
func doubt(a *app, api *client.Client, request client.RevokeRequest) (string, error) {
	der, err := request.Certificate, error(nil)
	if der == nil {
		der, err = known(a, api, request)
	}
	if err != nil {
		return "", err
	}
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return "This certificate is not known here: if it is an authority's, nothing below it stays valid.", nil
	case c.IsCA:
		return pki.NameText(c.RawSubject) + " is an authority: nothing below it stays valid.", nil
	}
	return "", nil
}

// known returns a certificate of the inventory or of an issuer: certificates signed by an off-line root are not in the
// inventory. Nil if it is neither.
func known(a *app, api *client.Client, request client.RevokeRequest) ([]byte, error) {
	got, err := api.Certificate(a.ctx, request.Issuer, request.Serial)
	if err == nil {
		return got.Certificate.DER, nil
	}
	if pki.KindOf(err) != pki.KindNotFound {
		return nil, err
	}
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		for _, der := range issuer.Certificates {
			if c, err := x509.ParseCertificate(der); err == nil && c.SerialNumber.Cmp(request.Serial.Big()) == 0 {
				return der, nil
			}
		}
	}
	return nil, nil
}

// runJob plans a job, asks for confirmation, starts it and waits for its end.
func (c *revokeCmd) runJob(a *app, api *client.Client, reason pki.Reason) error {
	selector, err := c.selector(a, api, c.Where)
	if err != nil {
		return err
	}
	plan, err := api.PlanJob(a.ctx, client.JobRequest{Selector: selector, Reason: reason, InvalidityAt: c.LostAt.Time})
	if err != nil {
		return err
	}
	if !a.json {
		printPlan(a.printer(), plan, c.Where)
	}
	if plan.Job.Selected == 0 {
		if _, err := api.CancelJob(a.ctx, plan.Job.ID); err != nil {
			return err
		}
		nothing := pki.Errorf(pki.KindNotFound, "revoke certificates", "no certificate that has not expired matches: nothing was revoked")
		if meant := domainMeant(c.Where); meant != "" {
			return nothing.WithHint("%s", meant)
		}
		return nothing.WithHint("signet list shows what there is; certificates of this server itself are revoked by name")
	}
	count := plan.Job.Selected - plan.AlreadyRevoked
	if reason == pki.KeyCompromise {
		count = plan.Job.Selected // the reason of those already revoked changes
	}
	if err := a.sure("revoke certificates", c.Yes || count == 0 || count == 1 && plan.Job.Authorities == 0, authoritiesSelected(&plan.Job)+fmt.Sprintf("Revoke %s, for good?", counted(count, "certificate"))); err != nil {
		return pki.Errorf(pki.KindRefused, "revoke certificates", "%d certificates match; not confirmed: nothing was revoked", count).
			WithHint("signet job start %s, or use --yes", plan.Job.ID)
	}
	if _, err := api.StartJob(a.ctx, plan.Job.ID, plan.Job.Authorities); err != nil {
		return err
	}
	job, err := a.followJob(api, plan.Job.ID)
	if err == nil && c.Wait {
		job, err = a.awaitJob(api, job.ID)
	}
	if err != nil {
		return err
	}
	return a.show(job, func(p *printer) {
		printEnd(p, job)
		p.next("signet job show %s", job.ID)
	})
}

// printEnd prints the result of a job that is done.
func printEnd(p *printer, job *client.Job) {
	p.line("job %s is %s: %d revoked, %d were revoked before", job.ID, job.State, job.Revoked, job.Skipped)
	if !job.PublishedAt.IsZero() {
		p.fields("started", on(job.StartedAt), "ended", on(job.EndedAt))
	}
	printPublished(p, job.PublishedAt)
}

// sure asks for confirmation of what cannot be undone, unless --yes is given. Without a terminal the answer is no.
func (a *app) sure(op string, yes bool, question string) error {
	if yes {
		return nil
	}
	if answer, err := a.ask(question + " Type yes to continue: "); err == nil && answer == "yes" {
		return nil
	}
	hint := "give --yes"
	if a.terminal() != nil {
		hint = "answer yes to do it, or give --yes"
	}
	return pki.Errorf(pki.KindRefused, op, "not confirmed: nothing was changed").WithHint("%s", hint)
}

// printPublished prints since when a change of status is published everywhere, if known.
func printPublished(p *printer, at time.Time) {
	if at.IsZero() {
		p.line("  It is durable, and OCSP says so from now on; the CRLs follow within seconds.")
		return
	}
	p.line("  Every instance that is alive had it in CRL and OCSP by %s.", on(at))
}
