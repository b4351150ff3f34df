package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List events of the audit log, the newest last."`
	Verify auditVerifyCmd `cmd:"" help:"Verify that no event was changed, removed or inserted."`
}

type auditListCmd struct {
	Actor  string   `placeholder:"NAME" help:"Only this actor, such as token:ci."`
	Action string   `placeholder:"NAME" help:"Only this action, such as certificate.issue."`
	Target string   `placeholder:"NAME" help:"Only this target, such as issuer/ID/serial/SERIAL, credential/ci or request/ID."`
	From   instant  `placeholder:"TIME" help:"At or after this time."`
	Since  duration `placeholder:"DURATION" help:"Of the last hours or days, such as 1h: the same as --from that long ago."`
	Until  instant  `placeholder:"TIME" help:"Before this time."`
	After  *uint64  `placeholder:"EVENT" help:"Only events after this one, from there on; 0: from the first."`
	Before uint64   `placeholder:"EVENT" help:"Only events before this one."`
	Limit  int      `short:"n" default:"100" help:"Number of events: the newest, or the first after --after; 0: all."`
	serverFlags
}

func (auditListCmd) Help() string {
	return `Examples:
  signet audit list -n 20
  signet audit list --since 1h
  signet audit list --actor token:ci --from 2026-11-16
  signet audit list --action certificate.revoke --limit 0 --output json`
}

// Run prints events.
func (c *auditListCmd) Run(a *app) error {
	if c.Limit < 0 {
		return pki.Errorf(pki.KindInvalid, "list audit events", "--limit: %d is negative", c.Limit)
	}
	if c.Since > 0 {
		if !c.From.IsZero() {
			return pki.Errorf(pki.KindInvalid, "list audit events", "--since and --from exclude each other")
		}
		c.From.Time = time.Now().UTC().Add(-time.Duration(c.Since))
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	list, err := c.read(a, api)
	if err != nil {
		return err
	}
	return a.show(list, func(p *printer) {
		if len(list.Events) == 0 {
			p.line("no event matches")
			return
		}
		var rows [][]string
		for _, e := range list.Events {
			rows = append(rows, []string{fmt.Sprint(e.Sequence), on(e.At), e.Actor, e.Action, e.Outcome, e.Target, facts(e.Detail)})
		}
		p.table([]string{"EVENT", "TIME", "ACTOR", "ACTION", "OUTCOME", "TARGET", "FACTS"}, rows)
		if list.Before != 0 {
			p.next("there are older ones: signet audit list --before %d", list.Before)
		}
		if list.After != 0 {
			p.next("there are newer ones: signet audit list --after %d", list.After)
		}
	})
}

// read gets the newest events, or those after --after, and sorts them in the order of writing.
func (c *auditListCmd) read(a *app, api *client.Client) (list auditList, err error) {
	newest := c.After == nil && c.Limit > 0
	filter := client.AuditFilter{Actor: c.Actor, Action: c.Action, Target: c.Target, From: c.From.Time, Until: c.Until.Time, Before: c.Before, Newest: newest}
	if c.After != nil {
		filter.After = *c.After
	}
	next := &filter.After
	list.Events = []client.AuditEvent{}
	if newest {
		next = &filter.Before
	}
	for {
		filter.PageSize = 1000
		if c.Limit > 0 {
			filter.PageSize = min(1000, c.Limit-len(list.Events))
		}
		page, err := api.AuditEvents(a.ctx, filter)
		if err != nil {
			return list, err
		}
		list.Events, *next = append(list.Events, page.Events...), page.Next
		if page.Next == 0 || len(list.Events) == c.Limit {
			break
		}
	}
	if newest {
		slices.Reverse(list.Events)
		list.Before = *next
	} else {
		list.After = *next
	}
	return list, nil
}

// auditList is what `signet audit list --output json` prints.
type auditList struct {
	Events []client.AuditEvent `json:"events"`
	Before uint64              `json:"next_before"` // --before for older events; 0: none
	// After is the --after for newer events, if --after or no limit was given; 0: none.
	After uint64 `json:"next_after"`
}

// facts returns details as "name=value", sorted by name.
func facts(detail map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		pairs = append(pairs, name+"="+detail[name])
	}
	return strings.Join(pairs, " ")
}

type auditVerifyCmd struct {
	Kept string `placeholder:"EVENT:HASH" help:"The value printed before: the log must continue that one."`
	serverFlags
}

func (auditVerifyCmd) Help() string {
	return `The server recomputes the hash chain from the first event. Anyone who can write to the database can cut the log short, or
rewrite it together with its chain. So keep the value printed at "keep" somewhere else, and give it with --kept next time.
The exit status is 10 if the log is not intact, or does not continue the one that was kept.

Examples:
  signet audit verify
  signet audit verify --kept 20:633e410c9bf0586b0d3f1dc4e2aa9b4fca1de25f0d7c8fa1e9b4c1d2e3f40516
  signet audit verify --output json`
}

// Run verifies the chain.
func (c *auditVerifyCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	report, err := api.VerifyAudit(a.ctx, c.Kept)
	if err != nil {
		return err
	}
	if err := a.show(report, func(p *printer) {
		if report.Intact {
			p.line("the audit log is whole: %d events, none changed, removed or inserted", report.Events)
			if c.Kept != "" {
				p.line("it continues what was kept")
			}
		} else {
			p.line("THE AUDIT LOG IS NOT WHOLE: %s", report.Finding)
		}
		if report.Intact {
			p.fields("keep", report.Kept())
		}
	}); err != nil {
		return err
	}
	if !report.Intact {
		return answerNo("the audit log is not whole")
	}
	return nil
}
