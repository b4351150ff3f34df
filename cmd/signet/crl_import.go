package main

import (
	"fmt"

	"signet.example/signet/pki"
)

type crlImportCmd struct {
	File    string   `arg:"" help:"The list, in DER or PEM; - is standard input."`
	Issuer  string   `required:"" placeholder:"NAME" help:"Id, label or name of the off-line issuer."`
	Expired []string `placeholder:"SERIAL" help:"A revoked certificate that is not on the list because it has expired. Repeat the flag, or separate several by commas."`
	serverFlags
}

// Help is shown by "signet crl import --help".
func (crlImportCmd) Help() string {
	return `The list is refused unless the issuer signed it, its number is larger than those of all lists before, it is in force, it
covers everything that the issuer signed, and everything that was revoked here is on it. Other programs leave out expired
certificates: name them with --expired, once for this list and those after it; the audit log records them. From then on every
instance serves the list at the URL in the certificates.

Examples:
  signet crl import --issuer root root.crl`
}

// Run imports one list.
func (c *crlImportCmd) Run(a *app) error {
	der, err := a.readDER(c.File, "CRL", "X509 CRL")
	if err != nil {
		return err
	}
	expired := make([]pki.Serial, len(c.Expired))
	for i, text := range c.Expired {
		if expired[i], err = pki.ParseSerial(text); err != nil {
			return (&pki.Error{Kind: pki.KindInvalid, Op: "import revocation list", Err: err}).InField("--expired")
		}
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	id, err := findIssuer(a, api, c.Issuer)
	if err != nil {
		return err
	}
	made, err := api.ImportCRL(a.ctx, id, der, expired)
	if err != nil {
		return err
	}
	return a.show(made, func(p *printer) {
		p.line("published list number %d of issuer %s", made.Number, c.Issuer)
		p.fields("from", on(made.ThisUpdate), "until", on(made.NextUpdate), "revoked", fmt.Sprint(made.Revoked), "sha256", made.Fingerprint, "at", made.URL)
		p.next("hold the next ceremony well before %s; /readyz and the alert SignetCeremonyDue remind", made.NextUpdate.UTC().Format("2006-01-02"))
	})
}
