package main

import (
	"fmt"
	"time"

	"signet.example/signet/internal/installation"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

type restoreCmd struct {
	Backup         string `arg:"" optional:"" help:"A file that signet backup wrote. Without one, with --in-place, the present database is moved on."`
	Dir            string `placeholder:"DIR" help:"State directory to make."`
	Database       string `placeholder:"URL" help:"Restore into this database instead of the one in the backup's configuration; it must be empty."`
	InPlace        bool   `help:"The database of this configuration went back in another way (standby promoted, snapshot): move its numbers on."`
	Yes            bool   `help:"With --in-place: move the numbers on without confirmation."`
	UnsafeDatabase bool   `help:"Accept a PostgreSQL that can lose confirmed writes."`
}

// Help is shown by "signet restore --help".
func (restoreCmd) Help() string {
	return `Nothing that exists is overwritten. A backup does not know what was issued or published after it was made, so all numbers are
moved past those that may have been handed out: serial numbers, ledger sequences and CRL numbers are never used twice. A backup
contains neither the passphrase of the keys nor files that signet.yaml names outside its directory: those missing on this
machine are listed. Stop every instance first. Certificates issued in between are answered as never issued; revoke those you know of.

Examples:
  signet restore signet.backup --dir /var/lib/signet
  signet restore signet.backup --dir /var/lib/signet --database postgres://signet@db/empty
  signet restore --in-place --yes`
}

// Run restores a backup, or moves the numbers of the present database forward.
func (c *restoreCmd) Run(a *app) error {
	const op = "restore"
	switch {
	case c.InPlace && c.Backup != "":
		return pki.Errorf(pki.KindInvalid, op, "--in-place takes no backup")
	case c.InPlace:
		return c.inPlace(a)
	case c.Backup == "" || c.Dir == "":
		return pki.Errorf(pki.KindInvalid, op, "a backup and --dir are needed").WithHint("signet restore FILE --dir DIR")
	}
	done, err := installation.Restore(a.ctx, installation.RestoreConfig{Archive: c.Backup, Dir: c.Dir, Database: c.Database, Unsafe: c.UnsafeDatabase})
	if err != nil {
		return err
	}
	return a.show(done, func(p *printer) {
		p.line("restored %s, made %s, to %s", c.Backup, on(done.Manifest.Made), done.Dir)
		p.fields("database", done.Database, "token", done.Token+"  a new administrator; tokens made before the backup still work")
		printAdvanced(p, done.Advanced)
		for _, m := range done.Missing {
			p.line("careful: signet.yaml names %s, which is not on this machine: put it there, or change %s", m.Path, m.Field)
		}
		if done.Closed != "" {
			p.line("careful: the keys do not open: %s; passphrase_file has to name the file with their passphrase", done.Closed)
		}
		p.next("signet serve --config %s", done.Config)
	})
}

func (c *restoreCmd) inPlace(a *app) error {
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := a.sure("restore", c.Yes, "Serial numbers, ledger and CRL numbers of "+config.DatabaseName()+" move on, for good. Did this database go back in time, and has every instance stopped?"); err != nil {
		return err
	}
	advanced, err := installation.Advance(a.ctx, config, c.UnsafeDatabase, time.Now())
	if err != nil {
		return err
	}
	return a.show(advanced, func(p *printer) {
		p.line("moved on the numbers of %s", config.DatabaseName())
		printAdvanced(p, advanced)
		p.next("signet serve --config %s", config.File)
	})
}

func printAdvanced(p *printer, advanced store.Advanced) {
	p.line("No number is used twice: the serial numbers of %d weeks were moved on, and the ledger goes on after entry %d (it was at %d).", advanced.Epochs, advanced.Ledger, advanced.Before)
	p.line("What was issued after the backup is not known here: revoke what you find of it, by certificate or as ISSUER/SERIAL.")
}

// sizeText returns a size for people.
func sizeText(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
