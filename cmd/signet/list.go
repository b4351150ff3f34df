package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type listCmd struct {
	Name        string   `arg:"" optional:"" help:"Exactly this name."`
	CommonName  string   `aliases:"cn" placeholder:"TEXT" help:"Exactly this common name (--cn for short); not with another name."`
	Under       string   `placeholder:"DOMAIN" help:"This DNS name and everything below it; with @ before it, the mailboxes of that domain."`
	Standing    string   `default:"any" enum:"any,valid,revoked,expired" help:"any, valid, revoked or expired."`
	Profile     string   `placeholder:"NAME" help:"Issued under this profile."`
	Issuer      string   `placeholder:"NAME" help:"From this issuer: id, label or name."`
	Account     string   `placeholder:"NAME" help:"Issued to this account."`
	System      bool     `help:"Signet's own too: OCSP responders, the API, the first authorities (account system)."`
	KeyHash     string   `placeholder:"HEX" help:"With this key (SHA-256 of its SubjectPublicKeyInfo)."`
	Expiring    duration `aliases:"expires-within" placeholder:"DURATION" help:"Ending between now and then, such as 30d."`
	EndingFrom  instant  `placeholder:"TIME" help:"Ending at or after this time."`
	EndingUntil instant  `placeholder:"TIME" help:"Ending before this time."`
	IssuedFrom  instant  `placeholder:"TIME" help:"Issued at or after this time."`
	IssuedUntil instant  `placeholder:"TIME" help:"Issued before this time."`
	Limit       *int     `short:"n" help:"At most this many; 0: all of them (default: 100; with --export all)."`
	Page        string   `placeholder:"TOKEN" help:"Continue from here (nextPageToken of the list before, which had the same conditions)."`
	Count       bool     `help:"Show only how many there are."`
	Export      string   `placeholder:"FORMAT" help:"Write all of them as csv or jsonl, page by page."`
	Out         string   `short:"o" placeholder:"FILE" help:"With --export: the file to write, which appears when it is whole (default: standard output)."`
	serverFlags
}

func (listCmd) Help() string {
	return `Newest first, unless a condition implies another order. All given conditions must hold.
Signet's own certificates (its OCSP responders and that of the API, which it renews every few days, and the authorities that
signet init made) are listed, counted and exported only with --system, --account system, --key-hash or one of their profiles:
root-ca, issuing-ca and ocsp-responder.

Examples:
  signet list
  signet list app.example
  signet list --cn "Release 7"
  signet list --expiring 30d --standing valid --under example
  signet list --ending-from 2027-03-01 --ending-until 2027-04-01
  signet list --limit 0 --output json
  signet list --export csv --out certificates.csv`
}

// Run prints certificates.
func (c *listCmd) Run(a *app) error {
	filter, token, err := c.filter()
	if err != nil {
		return err
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if filter.Issuer, err = optionalIssuer(a, api, c.Issuer); err != nil {
		return err
	}
	switch {
	case c.Count:
		return c.count(a, api, filter)
	case c.Export != "":
		return c.export(a, api, filter, token)
	}
	list, err := c.collect(a, api, filter, token)
	if err != nil {
		return err
	}
	return a.show(list, func(p *printer) {
		if len(list.Certificates) == 0 {
			own := ""
			if filter.NotAccount != "" {
				own = " (Signet's own: --system)"
			}
			p.line("no certificate matches%s", own)
			return
		}
		var rows [][]string
		for _, crt := range list.Certificates {
			rows = append(rows, []string{crt.Serial.String(), shortNames(values(crt.Identifiers), crt.Subject), crt.Profile, statusAt(crt, time.Now()), crt.NotAfter.UTC().Format(time.DateOnly)})
		}
		p.table([]string{"SERIAL", "NAMES", "PROFILE", "STATUS", "ENDS"}, rows)
		p.more(list.Next)
	})
}

// filter is what the flags select, and the token to go on from.
func (c *listCmd) filter() (f client.CertificateFilter, token string, err error) {
	const op = "list certificates"
	f = client.CertificateFilter{Identifier: c.Name, DNSSuffix: c.Under, CommonName: c.CommonName, Profile: c.Profile, Account: c.Account, IssuedFrom: c.IssuedFrom.Time, IssuedUntil: c.IssuedUntil.Time}
	if f.Standing, err = client.ParseStanding(c.Standing); err != nil {
		return f, "", &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	if c.KeyHash != "" {
		if f.KeyHash, err = pki.ParseKeyHash(c.KeyHash); err != nil {
			return f, "", &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
		}
	}
	// Naming the profile selects them.
	own := slices.Contains([]string{"root-ca", "issuing-ca", "ocsp-responder"}, c.Profile)
	if !c.System && c.Account == "" && c.KeyHash == "" && !own {
		f.NotAccount = client.AccountSystem
	}
	token = c.Page
	f.ExpiresFrom, f.ExpiresUntil = c.EndingFrom.Time, c.EndingUntil.Time
	if c.Expiring > 0 {
		f.ExpiresFrom = time.Now().UTC().Truncate(time.Second)
		if begun, rest, ok := strings.Cut(c.Page, "."); ok {
			seconds, err := strconv.ParseInt(begun, 10, 64)
			if err != nil {
				return f, "", pki.Errorf(pki.KindInvalid, op, "--page: %.40q is no token of a list with --expiring", c.Page)
			}
			f.ExpiresFrom, token = time.Unix(seconds, 0).UTC(), rest
		}
		f.ExpiresUntil = f.ExpiresFrom.Add(time.Duration(c.Expiring))
	}
	return f, token, c.checkForm(op)
}

// pageToken returns the value for --page. A page token of the API belongs to a list with certain bounds, and --expiring
// makes a time one of them: it is appended to the token.
func (c *listCmd) pageToken(filter client.CertificateFilter, next string) string {
	if c.Expiring == 0 || next == "" {
		return next
	}
	return strconv.FormatInt(filter.ExpiresFrom.Unix(), 10) + "." + next
}

// statusAt returns the status of a certificate at a time.
func statusAt(crt client.Certificate, at time.Time) string {
	if crt.Status == client.StatusGood && crt.NotAfter.Before(at) {
		return "expired"
	}
	return crt.Status.String()
}

// checkForm refuses flags that cannot be combined.
func (c *listCmd) checkForm(op string) error {
	switch {
	case c.Limit != nil && *c.Limit < 0:
		return pki.Errorf(pki.KindInvalid, op, "--limit: %d is negative", *c.Limit)
	case c.Export != "" && c.Export != "csv" && c.Export != "jsonl":
		return pki.Errorf(pki.KindInvalid, op, "--export: %q: want csv or jsonl", c.Export)
	case c.Out != "" && c.Export == "":
		return pki.Errorf(pki.KindInvalid, op, "--out belongs to --export").WithHint("add --export csv or --export jsonl")
	case c.Expiring > 0 && (!c.EndingFrom.IsZero() || !c.EndingUntil.IsZero()):
		return pki.Errorf(pki.KindInvalid, op, "--expiring says when they end: give it, or --ending-from and --ending-until")
	case c.Count && c.Export != "":
		return pki.Errorf(pki.KindInvalid, op, "give --count or --export, not both")
	}
	return nil
}

// collect reads pages into one list.
func (c *listCmd) collect(a *app, api *client.Client, filter client.CertificateFilter, token string) (*certificateList, error) {
	limit := 100
	if c.Limit != nil {
		limit = *c.Limit
	}
	certificates, next, err := upTo(limit, token, func(p client.Page) (*client.List[client.Certificate], error) {
		return api.Certificates(a.ctx, filter, p)
	})
	return &certificateList{Certificates: certificates, Next: c.pageToken(filter, next)}, err
}

func (c *listCmd) count(a *app, api *client.Client, filter client.CertificateFilter) error {
	count, err := api.CountCertificates(a.ctx, filter)
	if err != nil {
		return err
	}
	return a.show(count, func(p *printer) {
		about, match := "", "match"
		if !count.Exact {
			about = "about "
		}
		if count.Count == 1 {
			match = "matches"
		}
		p.line("%s%s %s", about, counted(count.Count, "certificate"), match)
	})
}

// certificateList is what `signet list --output json` prints; its items are as GET /v1/certificates gives them.
type certificateList struct {
	Certificates []client.Certificate `json:"certificates"`
	Next         string               `json:"nextPageToken"`
}

// shortNames shortens names to the width of a column.
func shortNames(names []string, subject string) string {
	switch len(names) {
	case 0:
		return subject
	case 1, 2:
		return sentence(names)
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}
