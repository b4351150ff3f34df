package main

import (
	"encoding/pem"
	"errors"

	"signet.example/signet/internal/durable"
)

type csrCmd struct {
	Names []string `arg:"" optional:"" name:"name" help:"Names for the certificate: app.example, *.app.example, 192.0.2.7, jane@app.example, https://app.example/."`
	Out   string   `short:"o" placeholder:"STEM" help:"Write STEM.key and STEM.csr (default: the first name, or the common name)."`
	keyFlags
}

func (csrCmd) Help() string {
	return `The private key is made here and stays here; the request holds its public half and the names.

Examples:
  signet csr app.example 192.0.2.7
  signet csr --key existing.key --out new app.example
  signet csr --cn "Release 7" --out release      # for a profile whose certificates have a common name and nothing else
  signet issue --csr app.example.csr`
}

// Run makes a key and a request.
func (c *csrCmd) Run(a *app) error {
	names, err := parseNames(c.Names)
	if err != nil {
		return err
	}
	stem, err := c.stem("make certificate request", c.Out, names)
	if err != nil {
		return err
	}
	key, err := c.open(stem + ".key")
	if err != nil {
		return err
	}
	der, err := key.request(c.CommonName, names)
	if err == nil {
		err = durable.WriteNew(stem+".csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o644)
	}
	if err != nil {
		return errors.Join(err, key.undo())
	}
	result := csrResult{Names: texts(names), Key: key.path, KeyMade: key.made, CSR: stem + ".csr"}
	return a.show(result, func(p *printer) {
		p.line("made a certificate request for %s", title(names, c.CommonName))
		p.fields("request", result.CSR, "key", describeKey(key))
		profile := "server"
		if len(names) == 0 {
			profile = "PROFILE      (signet profile list)"
		}
		p.next("signet issue --csr %s --profile %s", result.CSR, profile)
	})
}

// csrResult is what `signet csr --output json` prints.
type csrResult struct {
	Names   []string `json:"names"`
	Key     string   `json:"key"`      // path of the private key
	KeyMade bool     `json:"key_made"` // whether this command made it
	CSR     string   `json:"csr"`      // path of the request
}

func describeKey(k *localKey) string {
	if k.made {
		return k.path + " (readable by you only; it never leaves this machine)"
	}
	return k.path
}
