package main

import (
	"errors"
	"os"
	"time"

	"signet.example/signet/internal/installation"
	"signet.example/signet/pki"
)

type backupCmd struct {
	Out string `short:"o" required:"" placeholder:"FILE" help:"Write the backup here, for you only; - is standard output."`
}

// Help is shown by "signet backup --help".
func (backupCmd) Help() string {
	return `One file with the database as of one moment, the keys with each issuer's secret of serial numbers, configuration, roots
and profiles. The server may be running. Keys in it stay encrypted under their passphrase, which is not in it: keep that elsewhere. Names and
certificates in it are not encrypted.

Examples:
  signet backup --out signet.backup
  signet backup --out - | age -r age1... > signet.backup.age`
}

// Run writes a backup.
func (c *backupCmd) Run(a *app) error {
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	if c.Out == "-" {
		_, err := installation.Backup(a.ctx, config, a.out, time.Now())
		return err
	}
	file, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return pki.Errorf(pki.KindConflict, "back up", "%s exists already and is not overwritten", c.Out).
			WithHint("choose another name for each backup")
	}
	if err != nil {
		return fileError("back up", err)
	}
	manifest, err := installation.Backup(a.ctx, config, file, time.Now())
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out))
	}
	info, err := os.Stat(c.Out)
	if err != nil {
		return fileError("back up", err)
	}
	result := backupResult{c.Out, info.Size(), *manifest}
	return a.show(result, func(p *printer) {
		p.line("wrote a backup to %s", c.Out)
		p.fields("database", config.DatabaseName()+", as of "+on(manifest.Made), "size", sizeText(info.Size()))
		p.line("Restoring it needs the passphrase of the keys, which is not in it.")
		if manifest.Database == "postgres" { // its own is in use
			p.next("copy it to another place; try it with: signet restore %s --dir DIR --database postgres://USER@HOST/EMPTY", c.Out)
			return
		}
		p.next("copy it to another place; try it with: signet restore %s --dir DIR", c.Out)
	})
}

// backupResult is what `signet backup --output json` prints.
type backupResult struct {
	File     string                `json:"file"`
	Size     int64                 `json:"size"`
	Manifest installation.Manifest `json:"manifest"`
}
