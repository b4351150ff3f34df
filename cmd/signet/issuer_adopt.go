package main

import (
	"encoding/pem"
	"strings"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type issuerAdoptCmd struct {
	Label   string `arg:"" help:"A name for people: lower-case letters, digits, dots and hyphens."`
	File    string `arg:"" help:"Its certificate and those above it, in PEM; - is standard input."`
	Key     string `placeholder:"URI" help:"Its key in the server's key store, such as softkey:old-ca; signet key import brings it there (default: the key is off-line)."`
	CRL     string `name:"crl" placeholder:"FILE" help:"With --key: the last list that it signed, in DER or PEM."`
	NoCRL   bool   `name:"no-crl" help:"With --key: it never signed a list."`
	BaseURL string `name:"base-url" placeholder:"URL" help:"Where its lists and certificate are served (default: public_url)."`
	serverFlags
}

func (issuerAdoptCmd) Help() string {
	return `Without --key the CA stays off-line, as a root made with signet ceremony does: this server publishes its certificate and the CRLs that
signet crl import brings; there is no OCSP. --base-url is the address that its certificates point to.

With --key this server signs its CRLs from now on. --crl is the last one that the CA signed: what is revoked or on hold there stays so, and CRL
numbers continue. Stop the old CA before that list is made, and point the URL in its certificates at the complete list here.
If the command is interrupted, repeat it.

Examples:
  signet issuer adopt root-1 root-1/root.pem --base-url http://pki.example
  signet key import old old-ca.key
  signet issuer adopt old old-ca.pem --key softkey:old --crl old-ca.crl`
}

// Run adopts one CA.
func (c *issuerAdoptCmd) Run(a *app) error {
	text, err := a.readPEM(c.File)
	if err != nil {
		return err
	}
	if c.BaseURL, err = a.baseURL("adopt issuer", c.BaseURL); err != nil {
		return err
	}
	adoption := client.Adoption{Label: c.Label, PEM: text, BaseURL: c.BaseURL, KeyURI: c.Key, NoCRL: c.NoCRL}
	if c.CRL != "" {
		if adoption.CRL, err = a.readDER(c.CRL, "CRL", "X509 CRL"); err != nil {
			return err
		}
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	issuer, err := api.AdoptIssuer(a.ctx, adoption)
	if err != nil {
		return err
	}
	return a.show(issuer, func(p *printer) {
		p.line("issuer %s (%s) is served here", issuer.Label, issuer.ID)
		p.fields("subject", issuer.Subject, "certificate", issuer.BaseURL+"/issuers/"+issuer.ID.String()+".cer")
		if !issuer.Online {
			p.next("signet ceremony crl on its machine, then signet crl import --issuer %s FILE here", issuer.Label)
		}
	})
}

// readPEM reads certificates and returns them as PEM.
func (a *app) readPEM(path string) ([]byte, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block == nil {
		data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: data})
	}
	return data, nil
}

// baseURL returns the value given, or the one in the configuration.
func (a *app) baseURL(op, given string) (string, error) {
	if given != "" {
		return strings.TrimSuffix(given, "/"), nil
	}
	config, err := a.loadConfig()
	if err != nil {
		return "", pki.Errorf(pki.KindInvalid, op, "--base-url is not given, and there is no configuration to take it from")
	}
	return config.PublicURL, nil
}
