package main

import (
	"cmp"
	"encoding/pem"
	"path/filepath"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

type keyCmd struct {
	Block      keyBlockCmd      `cmd:"" help:"Revoke every certificate with a key, and never certify it again."`
	Passphrase keyPassphraseCmd `cmd:"" help:"Change the passphrase of the key files."`
}

type keyBlockCmd struct {
	Certificate string  `xor:"what" placeholder:"FILE" help:"A certificate with the key."`
	Hash        string  `xor:"what" placeholder:"HEX" help:"SHA-256 of the SubjectPublicKeyInfo."`
	Proof       string  `xor:"what" placeholder:"FILE" help:"A request signed with the key, common name \"Signet key compromise\"."`
	Comment     string  `placeholder:"TEXT" help:"What happened; it is kept."`
	LostAt      instant `placeholder:"TIME" help:"Since when the key must be doubted."`
	serverFlags
}

// Help is shown by `signet key block --help`.
func (keyBlockCmd) Help() string {
	return `For a key that somebody else has. Every unexpired certificate with it is revoked for keyCompromise, whoever it belongs to.

Examples:
  signet key block --certificate app.example.pem --comment "found in a public repository"
  signet key block --proof compromise.csr`
}

// Run blocks one key.
func (c *keyBlockCmd) Run(a *app) error {
	const op = "block key"
	request := client.BlockRequest{Comment: c.Comment, InvalidityAt: c.LostAt.Time}
	switch {
	case c.Certificate != "":
		certificate, err := a.readCertificate(c.Certificate)
		if err != nil {
			return err
		}
		request.CertificatePEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	case c.Proof != "":
		der, err := a.readDER(c.Proof, "certificate request", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
		if err != nil {
			return err
		}
		request.ProofCSRPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	case c.Hash != "":
		var err error
		if request.KeyHash, err = pki.ParseKeyHash(c.Hash); err != nil {
			return (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("--hash")
		}
	default:
		return pki.Errorf(pki.KindInvalid, op, "no key is named").WithHint("give --certificate, --hash or --proof")
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	blocked, err := api.BlockKey(a.ctx, request)
	if err != nil {
		return err
	}
	return a.show(blocked, func(p *printer) {
		verb := "blocked"
		if blocked.Repeated {
			verb = "had blocked already"
		}
		p.line("%s key %s", verb, blocked.KeyHash)
		p.line("  Certificates with it that were revoked now: %d. It will never be certified again.", blocked.Revoked)
		if blocked.Job != "" {
			p.next("the rest is being revoked: signet job show %s", blocked.Job)
		}
	})
}

type keyPassphraseCmd struct {
	PassphraseFile string `placeholder:"FILE" help:"File with the present passphrase (passphrase_file)."`
	New            string `name:"new-passphrase-file" placeholder:"FILE" help:"File with the new one on its only line (default: ask)."`
	Dir            string `placeholder:"DIR" help:"Directory of the key files, such as that of a ceremony (default: keys, beside signet.yaml)."`
}

// Help is shown by `signet key passphrase --help`.
func (keyPassphraseCmd) Help() string {
	return `Encrypts every key file of this machine anew, and nothing else: keys and certificates stay. A file that the new passphrase opens
already is left alone, so an attempt that broke off is gone on with. Servers that run have their keys open; give them the new passphrase, and start them
again. Backups that were made before keep the old one.

Examples:
  signet key passphrase --new-passphrase-file new.passphrase
  signet key passphrase --dir root-1/keys`
}

// Run changes the passphrase of all files, or, if one of them does not open, of none.
func (c *keyPassphraseCmd) Run(a *app) error {
	const op = "change passphrase"
	dir, file := c.Dir, c.PassphraseFile
	if dir == "" {
		config, err := a.loadConfig()
		if err != nil {
			return err
		}
		dir, file = config.State().Keys(), cmp.Or(file, config.PassphraseFilePath())
	}
	before, err := a.passphrase(file, false)
	if err != nil {
		return err
	}
	after, err := c.ask(a)
	if err != nil {
		return err
	}
	changed := resealed{Dir: dir, Changed: []string{}, Before: []string{}}
	texts := make(map[string][]byte)
	for _, pattern := range []string{"*.key", "*.serial"} { // a key in a token has its secret in a file
		paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are good
		for _, path := range paths {
			text, err := a.readInput(path)
			if err != nil {
				return err
			}
			if texts[path], err = softkey.Reseal(text, before, after); err == nil {
				changed.Changed = append(changed.Changed, path)
			} else if _, done := softkey.Reseal(text, after, after); done == nil {
				changed.Before = append(changed.Before, path)
			} else {
				return pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w; nothing was changed", path, err).WithHint("is the present passphrase right?")
			}
		}
	}
	if len(texts) == 0 {
		return pki.Errorf(pki.KindNotFound, op, "there is no key file in %s", dir)
	}
	for _, path := range changed.Changed {
		if err := durable.Replace(path, texts[path], 0o600); err != nil {
			return fileError(op, err)
		}
	}
	return a.show(changed, func(p *printer) {
		p.line("%s of %s: the new passphrase opens them", counted(len(texts), "key file"), dir)
		p.next("give it to the server (passphrase_file), start that again, and make a backup: those from before keep the old one")
	})
}

// ask reads the new passphrase.
func (c *keyPassphraseCmd) ask(a *app) ([]byte, error) {
	if c.New != "" {
		return a.passphrase(c.New, true)
	}
	after, err := a.askSecret("read passphrase", "new passphrase", "New passphrase of the keys: ", true, "put it into a file and name it with --new-passphrase-file")
	if err == nil {
		err = longEnough(after)
	}
	return after, err
}

// resealed is what `signet key passphrase --output json` prints.
type resealed struct {
	Dir     string   `json:"dir"`
	Changed []string `json:"changed"`
	Before  []string `json:"changed_before"`
}
