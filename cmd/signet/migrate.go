package main

import (
	"signet.example/signet/internal/installation"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
)

type migrateCmd struct {
	Check bool `help:"Only show the version of the schema; exit status 10 if it is not this binary's."`
}

// Help is shown by "signet migrate --help".
func (migrateCmd) Help() string {
	return `"signet serve" migrates by itself when it starts, and any number of instances may start at once. This command does it
beforehand. Schemas only go forward: make a backup before an upgrade. A schema newer than the binary is refused.

Examples:
  signet migrate --check
  signet migrate`
}

// Run migrates the schema to the version of this binary.
func (c *migrateCmd) Run(a *app) error {
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	before, err := installation.DatabaseStatus(a.ctx, config)
	if err != nil {
		return err
	}
	result := migrateResult{Database: config.DatabaseName(), Before: before.Version, After: before.Version, Latest: before.Latest, Dirty: before.Dirty, Differs: before.Differs}
	if !c.Check {
		opened, err := installation.OpenDatabase(a.ctx, config, "signet migrate", false)
		if err != nil {
			return err
		}
		if err := opened.Close(); err != nil {
			return err
		}
		result.After, result.Dirty = before.Latest, false
	}
	if err := a.show(result, func(p *printer) {
		switch {
		case result.After != result.Before:
			p.line("migrated the schema from version %d to %d", result.Before, result.After)
		case result.Current():
			p.line("the schema is at version %d, which is this binary's", result.After)
		case result.Differs:
			p.line("the schema is at version %d of another build of signet", result.After)
		default:
			p.line("the schema is at version %d; this binary's is %d", result.After, result.Latest)
		}
		p.fields("database", result.Database)
		if result.After < result.Latest && !result.Dirty && !result.Differs {
			p.next("signet backup --out FILE, then signet migrate; or start the server, which migrates by itself")
		}
	}); err != nil {
		return err
	}
	return c.verdict(before, result)
}

// verdict returns the error for the exit status of --check.
func (c *migrateCmd) verdict(before migrations.Status, result migrateResult) error {
	switch {
	case result.Current():
		return nil
	case before.Version > before.Latest || before.Dirty || before.Differs:
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: "check schema", Err: &migrations.SchemaError{Status: before},
			Hint: "continue with the signet that made this database, or restore the backup made before the upgrade"}
	}
	return answerNo("the schema is older than this binary")
}

// migrateResult is what `signet migrate --output json` prints.
type migrateResult struct {
	Database string `json:"database"`
	Before   uint   `json:"before"`  // version found
	After    uint   `json:"after"`   // version left
	Latest   uint   `json:"latest"`  // version of this binary
	Dirty    bool   `json:"dirty"`   // a migration stopped half way
	Differs  bool   `json:"differs"` // the migration files are those of another build
}

// Current reports whether this binary can use the schema as it is.
func (r migrateResult) Current() bool { return r.After == r.Latest && !r.Dirty && !r.Differs }
