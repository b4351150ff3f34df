package main

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/pkcs11"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/ca/policy"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type keyImportCmd struct {
	Name               string `arg:"" help:"Its name here: lower-case letters, digits, dots and hyphens. For a key in a token, its label there."`
	File               string `arg:"" optional:"" help:"The private key in PEM: PKCS #8, encrypted or not, SEC 1 or PKCS #1; - is standard input."`
	Token              bool   `help:"It is in the token of signet.yaml (keys.pkcs11) already, and stays there."`
	FilePassphraseFile string `placeholder:"FILE" help:"File with the passphrase of an encrypted FILE on its only line (default: ask)."`
	PassphraseFile     string `placeholder:"FILE" help:"File with the passphrase of the keys of this machine (passphrase_file)."`
}

func (keyImportCmd) Help() string {
	return `For the key of an authority that another program ran: it becomes a key of this machine, with a new secret for serial numbers
beside it, under the passphrase of the other keys. The next step is signet issuer adopt. Nothing is overwritten. FILE is not
changed: destroy it and its copies when everything is done. For a key in a token only the secret is made, after a test signature
by the token.

Every instance needs the new file in its own keys directory: copy NAME.key, or for a key in a token NAME.serial, from the first.

Examples:
  signet key import old old-ca.key
  signet key import old old-ca.key --file-passphrase-file old.passphrase
  signet key import old --token`
}

const importOp = "import key"

// Run imports one key into the key store.
func (c *keyImportCmd) Run(a *app) (err error) {
	if c.Token == (c.File != "") {
		return pki.Errorf(pki.KindInvalid, importOp, "name a file with the key, or say that it is in the token").
			WithHint("signet key import NAME FILE, or signet key import NAME --token")
	}
	if c.Token && c.FilePassphraseFile != "" {
		return pki.Errorf(pki.KindInvalid, importOp, "a key in a token is in no file").InField("--file-passphrase-file")
	}
	if err := keys.CheckName(importOp, c.Name); err != nil {
		return err
	}
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	passphrase, err := a.passphrase(cmp.Or(c.PassphraseFile, config.PassphraseFilePath()), false)
	if err != nil {
		return err
	}
	dir := config.State().Keys()
	if err := c.checkPassphrase(a, dir, passphrase); err != nil {
		return err
	}
	stores, err := c.open(config, dir, passphrase)
	if err != nil {
		return err
	}
	defer closeInto(&err, func() error { return closeStores(stores) })
	key, err := c.bring(a, stores)
	if err != nil {
		return err
	}
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		return pki.Errorf(pki.KindInternal, importOp, "%w", err)
	}
	done := importedKey{key.URI, keys.AlgorithmOf(key.Public()).String(), hash.String()}
	return a.show(done, func(p *printer) {
		p.line("%s is a key of this machine", done.URI)
		p.fields("type", done.Algorithm, "sha256 of key", done.SHA256)
		p.next("signet issuer adopt %s CERTIFICATE --key %s --crl LIST; make a backup, which holds it", c.Name, done.URI)
	})
}

// importedKey is what `signet key import --output json` prints.
type importedKey struct {
	URI       string `json:"key"`
	Algorithm string `json:"algorithm"`
	SHA256    string `json:"key_sha256"` // of its SubjectPublicKeyInfo
}

// checkPassphrase refuses a passphrase that opens none of the present keys: a server has one passphrase for all.
func (c *keyImportCmd) checkPassphrase(a *app, dir string, passphrase []byte) error {
	for _, pattern := range []string{"*.key", "*.serial"} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are valid
		for _, path := range paths {
			if strings.HasPrefix(filepath.Base(path), ".") { // left by a process that was killed
				continue
			}
			text, err := a.readInput(path)
			if err != nil {
				return err
			}
			if _, err := softkey.Reseal(text, passphrase, passphrase); err != nil {
				return pki.Errorf(pki.KindFailedPrecondition, importOp, "%s: %w", path, err).
					WithHint("give the passphrase that the keys here have: a server opens all of them with one")
			}
			return nil
		}
	}
	return nil
}

// open opens the files, and the token if the key is in it.
func (c *keyImportCmd) open(config *settings.Config, dir string, passphrase []byte) (keys.Schemes, error) {
	wanted := config.KeyStores()
	if !c.Token {
		wanted = settings.KeysConfig{Store: "softkey"}
	} else if wanted.PKCS11.Module == "" {
		return keys.Schemes{}, pki.Errorf(pki.KindFailedPrecondition, importOp, "no token is configured").InField("--token").
			WithHint("write keys: {pkcs11: {module: ..., token: ..., pin_file: ...}} into signet.yaml")
	}
	return installation.OpenKeys(wanted, dir, passphrase, nil)
}

// bring imports the key into its store.
func (c *keyImportCmd) bring(a *app, stores keys.Schemes) (*keys.Key, error) {
	if c.Token {
		return stores.Stores["pkcs11"].(*pkcs11.Store).Import(a.ctx, c.Name, checkStrength)
	}
	signer, err := c.read(a)
	if err != nil {
		return nil, err
	}
	if err := checkStrength(signer.Public()); err != nil {
		return nil, err
	}
	return stores.Stores["softkey"].(*softkey.Store).Import(a.ctx, c.Name, signer)
}

// checkStrength refuses keys that anyone could have. The server checks its list of weak keys when the key is adopted.
func checkStrength(public crypto.PublicKey) error {
	err := policy.CheckKey(public, nil)
	if e, ok := errors.AsType[*pki.Error](err); ok {
		return e.InField("key")
	}
	return err
}

// read reads the key from the file.
func (c *keyImportCmd) read(a *app) (crypto.Signer, error) {
	text, err := a.readInput(c.File)
	if err != nil {
		return nil, err
	}
	return keyIn(c.File, text, func(block *pem.Block) (crypto.Signer, error) {
		passphrase, err := c.filePassphrase(a)
		if err != nil {
			return nil, err
		}
		signer, err := softkey.Decrypt(block.Bytes, passphrase)
		if err != nil {
			return nil, pki.Errorf(pki.KindFailedPrecondition, importOp, "%s: %w", c.File, err).
				WithHint("is this the passphrase of that file? `openssl pkey -in FILE` asks for it as well")
		}
		return signer, nil
	})
}

// filePassphrase returns the passphrase of the file, which need not be that of the key store.
func (c *keyImportCmd) filePassphrase(a *app) ([]byte, error) {
	if c.FilePassphraseFile == "" {
		return a.askSecret("read passphrase", "passphrase of "+c.File, "Passphrase of "+c.File+": ", false, "put it into a file and name it with --file-passphrase-file")
	}
	text, err := a.readInput(c.FilePassphraseFile)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}
