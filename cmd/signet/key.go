package main

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

type keyCmd struct {
	Block      keyBlockCmd      `cmd:"" help:"Revoke every certificate with a key, and never certify it again."`
	List       keyListCmd       `cmd:"" help:"List the keys that are blocked."`
	Import     keyImportCmd     `cmd:"" help:"Import a key that was made elsewhere into the key store."`
	Passphrase keyPassphraseCmd `cmd:"" help:"Change the passphrase of the key files."`
}

type keyBlockCmd struct {
	Certificate string  `xor:"what" placeholder:"FILE" help:"A certificate with the key."`
	Hash        string  `xor:"what" placeholder:"HEX" help:"SHA-256 of the SubjectPublicKeyInfo."`
	Proof       string  `xor:"what" placeholder:"FILE" help:"A request signed with the key, common name \"Signet key compromise\"."`
	Key         string  `xor:"what" placeholder:"FILE" help:"The private key itself. It signs a challenge here, and is not sent."`
	Comment     string  `placeholder:"TEXT" help:"What happened; it is kept. Required unless the key itself is the proof."`
	LostAt      instant `placeholder:"TIME" help:"Since when the key may have been compromised."`
	Yes         bool    `help:"Block the key of an authority without confirmation."`
	Wait        bool    `help:"Return only when every certificate with it is revoked, and every instance has published that in CRL and OCSP."`
	serverFlags
}

func (keyBlockCmd) Help() string {
	return `For a key that others have. Every unexpired certificate with it is revoked for keyCompromise, whatever account it belongs to. To
block the key of an authority of this server, confirmation or --yes is required: nothing below it stays valid.

Examples:
  signet key block --certificate app.example.pem --comment "found in a public repository"
  signet key block --key found.key --wait
  signet key block --proof compromise.csr`
}

// Run blocks one key.
func (c *keyBlockCmd) Run(a *app) error {
	request, key, err := c.request(a)
	if err != nil {
		return err
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if err := c.spareAuthorities(a, api, key); err != nil {
		return err
	}
	blocked, err := api.BlockKey(a.ctx, request)
	if err != nil {
		return err
	}
	if err := a.show(blocked, func(p *printer) { c.print(p, blocked) }); err != nil {
		return err
	}
	if !c.Wait || blocked.Job == "" {
		return unpublished(c.Wait, blocked.Sequence, blocked.PublishedAt)
	}
	if _, err := a.followJob(api, blocked.Job); err != nil {
		return err
	}
	job, err := a.awaitJob(api, blocked.Job)
	if err != nil || a.json {
		return err
	}
	p := a.printer()
	printEnd(p, job)
	return p.err
}

const keyBlockOp = "block key"

// request returns the request made by the flags: the key, and the proof that it is compromised.
func (c *keyBlockCmd) request(a *app) (request client.BlockRequest, key pki.KeyHash, err error) {
	request = client.BlockRequest{Comment: c.Comment, InvalidityAt: c.LostAt.Time, WaitPublished: c.Wait}
	switch {
	case c.Certificate != "":
		certificate, err := a.readCertificate(c.Certificate)
		if err != nil {
			return request, key, err
		}
		key = pki.HashKeyMaterial(certificate.PublicKey)
		request.CertificatePEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	case c.Key != "":
		signer, err := readKey(c.Key)
		if err != nil {
			return request, key, err
		}
		key = pki.HashKeyMaterial(signer.Public())
		if request.Challenge, err = client.SignChallenge(signer, time.Now()); err != nil {
			return request, key, err
		}
	case c.Proof != "":
		der, err := a.readDER(c.Proof, "certificate request", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
		if err != nil {
			return request, key, err
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return request, key, (&pki.Error{Kind: pki.KindInvalid, Op: keyBlockOp, Err: err}).InField("--proof")
		}
		key = pki.HashKeyMaterial(csr.PublicKey)
		request.ProofCSRPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	case c.Hash != "":
		if key, err = pki.ParseKeyHash(c.Hash); err != nil {
			return request, key, (&pki.Error{Kind: pki.KindInvalid, Op: keyBlockOp, Err: err}).InField("--hash")
		}
		request.KeyHash = key
	default:
		return request, key, pki.Errorf(pki.KindInvalid, keyBlockOp, "no key is named").
			WithHint("give --certificate, --hash, --key or --proof")
	}
	if c.Comment == "" && c.Key == "" && c.Proof == "" {
		return request, key, pki.Errorf(pki.KindInvalid, keyBlockOp, "a comment is missing: without the key itself it is the only record of why").
			WithHint("say it with --comment, or prove it with --key or --proof")
	}
	return request, key, nil
}

// spareAuthorities asks for confirmation before the key of a CA is blocked.
func (c *keyBlockCmd) spareAuthorities(a *app, api *client.Client, key pki.KeyHash) error {
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		if !hasKey(issuer, key) {
			continue
		}
		if err := a.sure(keyBlockOp, c.Yes, issuer.Subject+" is an authority with this key: nothing below it stays valid. Block it, for good?"); err != nil {
			return err
		}
	}
	return nil
}

func (c *keyBlockCmd) print(p *printer, blocked *client.Blocked) {
	if blocked.Repeated {
		p.line("key %s was blocked already", blocked.KeyHash)
	} else {
		p.line("blocked key %s", blocked.KeyHash)
	}
	p.line("  Certificates with it that were revoked now: %d. It will never be certified again.", blocked.Revoked)
	if blocked.Job != "" {
		p.next("the rest is being revoked: signet job show %s", blocked.Job)
	} else if blocked.Revoked > 0 || c.Wait {
		printPublished(p, blocked.PublishedAt)
	}
}

// hasKey reports whether an issuer has a key, compared by the hash of its encoding or, whatever the encoding, of its
// material.
func hasKey(issuer client.Issuer, key pki.KeyHash) bool {
	for _, der := range issuer.Certificates {
		if c, err := x509.ParseCertificate(der); err == nil && pki.HashKeyMaterial(c.PublicKey) == key {
			return true
		}
	}
	return issuer.KeyHash == key
}

type keyListCmd struct{ serverFlags }

func (keyListCmd) Help() string {
	return `For administrators and auditors, by the hash of the key: when and by whom it was blocked, how its compromise was proved, and the
comment.

Examples:
  signet key list`
}

// Run prints every blocked key.
func (c *keyListCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	keys, err := whole(api.AllBlockedKeys(a.ctx))
	if err != nil {
		return err
	}
	return a.show(keyList{keys}, func(p *printer) {
		var rows [][]string
		for _, k := range keys {
			rows = append(rows, []string{k.KeyHash.String(), on(k.BlockedAt), k.BlockedBy, k.Proof, cmp.Or(k.Comment, "-")})
		}
		p.table([]string{"KEY", "BLOCKED", "BY", "PROOF", "COMMENT"}, rows)
	})
}

// keyList is what `signet key list --output json` prints.
type keyList struct {
	Keys []client.BlockedKey `json:"keys"`
}

type keyPassphraseCmd struct {
	PassphraseFile string `placeholder:"FILE" help:"File with the present passphrase (passphrase_file)."`
	New            string `name:"new-passphrase-file" placeholder:"FILE" help:"File with the new one on its only line (default: ask)."`
	Dir            string `placeholder:"DIR" help:"Directory of the key files, such as that of a ceremony (default: keys, beside signet.yaml)."`
}

func (keyPassphraseCmd) Help() string {
	return `Encrypts every key file of this machine with the new passphrase, and changes nothing else: keys and certificates stay. A file
that the new passphrase already opens is left alone, so repeating an interrupted attempt completes it. Running servers have their
keys open; give them the new passphrase, and restart them. Create no issuer in between: its key would get the old passphrase.
Earlier backups keep the old one.

Examples:
  signet key passphrase --new-passphrase-file new.passphrase
  signet key passphrase --dir root-1/keys`
}

// Run changes the passphrase of all files or, if one of them does not open, of none.
func (c *keyPassphraseCmd) Run(a *app) error {
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
	changed, err := c.reseal(a, dir, before, after)
	if err != nil {
		return err
	}
	return a.show(changed, func(p *printer) {
		p.line("%s of %s: the new passphrase opens them", counted(len(changed.Changed)+len(changed.Before), "key file"), dir)
		p.next("give it to the server (passphrase_file), start that again, and make a backup: those from before keep the old one")
	})
}

// reseal writes every new file beside the old one before it replaces the first.
func (c *keyPassphraseCmd) reseal(a *app, dir string, before, after []byte) (*resealed, error) {
	const op = "change passphrase"
	done := &resealed{Dir: dir, Changed: []string{}, Before: []string{}}
	var files []*durable.File
	defer func() {
		for _, file := range files {
			file.Abandon()
		}
	}()
	var ready []string
	for _, pattern := range []string{"*.key", "*.serial"} { // a key in a token has its secret in a file
		paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are valid
		for _, path := range paths {
			if strings.HasPrefix(filepath.Base(path), ".") { // left by a process that was killed
				continue
			}
			text, err := a.readInput(path)
			if err != nil {
				return nil, err
			}
			sealed, err := softkey.Reseal(text, before, after)
			if err != nil {
				if _, err := softkey.Reseal(text, after, after); err == nil {
					done.Before = append(done.Before, path)
					continue
				}
				return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w; nothing was changed", path, err).
					WithHint("is the present passphrase right?")
			}
			file, err := durable.Update(path, 0o600)
			if err != nil {
				return nil, fileError(op, err)
			}
			files, ready = append(files, file), append(ready, path)
			if _, err := file.Write(sealed); err != nil {
				return nil, fileError(op, err)
			}
			if err := file.Prepare(); err != nil {
				return nil, fileError(op, err)
			}
		}
	}
	if len(ready)+len(done.Before) == 0 {
		return nil, pki.Errorf(pki.KindNotFound, op, "there is no key file in %s", dir)
	}
	for i, file := range files {
		if err := file.Commit(); err != nil {
			return nil, pki.Errorf(pki.KindUnavailable, op, "replace %s: %w; the new passphrase opens only %q", ready[i], err, append(done.Before, ready[:i]...)).
				WithHint("the same command again goes on with the others")
		}
		done.Changed = append(done.Changed, ready[i])
	}
	return done, nil
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
