package main

import (
	"crypto/x509"
	"fmt"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
)

type showCmd struct {
	certificateRef
	PEM bool `name:"pem" help:"Print the certificate and its chain in PEM, and nothing else."`
	serverFlags
}

func (showCmd) Help() string {
	return `Examples:
  signet show 41aa...
  signet show app.example.pem
  signet show --pem 41aa... > app.example.pem`
}

// Run prints one certificate.
func (c *showCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	found, err := c.find(a, api)
	if err != nil {
		return err
	}
	got, err := api.Certificate(a.ctx, found.Issuer, found.Serial)
	if err != nil {
		return err
	}
	if c.PEM {
		_, err := a.out.Write(got.PEM)
		return err
	}
	return a.show(got, func(p *printer) {
		crt := got.Certificate
		p.line("certificate %s of issuer %s: %s", crt.Serial, crt.Issuer, crt.Status)
		p.fields(
			"names", sentence(values(crt.Identifiers)),
			"subject", crt.Subject,
			"profile", crt.Profile,
			"account", crt.Account,
			"valid", span(crt.NotBefore, crt.NotAfter),
			"issued", on(crt.IssuedAt),
			"key", keyText(crt),
			"fingerprint", "sha256 "+crt.Fingerprint,
		)
		revocationFields(p, crt.Revocation)
		p.next("signet audit list --target issuer/%s/serial/%s shows who requested it, and what was done with it", crt.Issuer, crt.Serial)
	})
}

// revocationFields prints a revocation, if there is one.
func revocationFields(p *printer, r *client.Revocation) {
	if r == nil {
		return
	}
	p.fields("revoked", on(r.RevokedAt), "reason", r.Reason.String(), "key lost", on(r.InvalidityAt), "entry", fmt.Sprint(r.Sequence))
}

// keyText returns the kind of a certificate's key and its hash.
func keyText(crt client.Certificate) string {
	text := "sha256 " + crt.KeyHash.String()
	if parsed, err := x509.ParseCertificate(crt.DER); err == nil {
		if algorithm := keys.AlgorithmOf(parsed.PublicKey); algorithm != keys.NoAlgorithm {
			return algorithm.String() + ", " + text
		}
	}
	return text
}
