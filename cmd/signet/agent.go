package main

import (
	"strconv"
	"time"

	"signet.example/signet/internal/agent"
)

type agentCmd struct {
	File string `arg:"" help:"The configuration of the agent: which certificates, in which files."`
	Once bool   `help:"Check once, renew what is due, show the state of all, and exit."`
}

func (agentCmd) Help() string {
	return `The first certificate is obtained with a token, later ones by the old certificate. Files are
replaced whole, and then the hook is run. docs/OPERATIONS.md describes the file.

Examples:
  signet agent agent.yaml
  signet agent agent.yaml --once --output json`
}

// Run keeps certificates renewed until it is told to stop.
func (c *agentCmd) Run(a *app) error {
	outliveReaders()
	config, err := agent.LoadConfig(c.File)
	if err != nil {
		return err
	}
	release, err := config.Lock()
	if err != nil {
		return err
	}
	defer release()
	keeper, err := agent.New(*config, time.Now, func(s agent.Status, err error) {
		if err != nil && s.NextTry.IsZero() {
			a.note("%s: %v", s.Certificate, err)
			return
		}
		if err != nil {
			a.note("%s: attempt %d: %v; next at %s", s.Certificate, s.Failures, err, on(s.NextTry))
			return
		}
		a.note("%s: serial %s, ends %s, to be renewed %s", s.Certificate, s.Serial, on(s.NotAfter), on(s.RenewAt))
	})
	if err != nil {
		return err
	}
	if !c.Once {
		keeper.Run(a.ctx)
		return nil
	}
	all, failed := keeper.Once(a.ctx)
	if err := a.show(map[string]any{"certificates": all}, func(p *printer) {
		var rows [][]string
		for _, s := range all {
			rows = append(rows, []string{s.Certificate, s.Serial, on(s.NotAfter), on(s.RenewAt), s.Standing, strconv.FormatBool(!s.Changed.IsZero())})
		}
		p.table([]string{"CERTIFICATE", "SERIAL", "ENDS", "RENEWED AFTER", "STANDING", "CHANGED"}, rows)
	}); err != nil {
		return err
	}
	return failed
}
