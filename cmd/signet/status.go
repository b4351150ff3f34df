package main

import (
	"cmp"

	"signet.example/signet/api/client"
)

type statusCmd struct {
	certificateRef
	At instant `placeholder:"TIME" help:"Judge the validity at this time (default: now). Revocation is always as known now."`
	serverFlags
}

func (statusCmd) Help() string {
	return `Answers "is this certificate authentic and in force?" with the evidence. The exit status is 0 only for yes, and 10 for
any other answer.

Examples:
  signet status app.example.pem
  openssl s_client -connect app.example:443 </dev/null | signet status -
  signet status 41aa... --output json`
}

// Run asks the server about one certificate.
func (c *statusCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	der, err := c.certificate(a, api)
	if err != nil {
		return err
	}
	check, err := api.CheckCertificate(a.ctx, der, c.At.Time)
	if err != nil {
		return err
	}
	if err := a.show(check, func(p *printer) { printCheck(p, c.Certificate, check) }); err != nil {
		return err
	}
	if check.Verdict != client.VerdictInForce {
		return answerNo("the certificate is not in force")
	}
	return nil
}

// certificate reads the file, or gets the certificate with the serial.
func (c *statusCmd) certificate(a *app, api *client.Client) ([]byte, error) {
	certificate, err := c.der(a)
	if err != nil {
		return nil, err
	}
	if certificate != nil {
		return certificate.Raw, nil
	}
	found, err := c.find(a, api)
	if err != nil {
		return nil, err
	}
	return found.DER, nil
}

func printCheck(p *printer, what string, check *client.Check) {
	p.line("%s: %s", what, check.Summary)
	pairs := []string{"verdict", check.Verdict.String(), "serial", check.Serial}
	if !check.Issuer.IsZero() {
		pairs = append(pairs, "issuer", check.Issuer.String())
	}
	p.fields(pairs...)
	revocationFields(p, check.Revocation)
	if len(check.Evidence) > 0 {
		if check.Issuer.IsZero() {
			p.line("evidence:")
		} else {
			p.line("evidence, with the ledger up to entry %d:", check.Sequence)
		}
		var rows []string
		for _, e := range check.Evidence {
			sign := "no  "
			if e.Favourable {
				sign = "yes "
			}
			rows = append(rows, sign+e.Source, e.Statement)
		}
		p.fields(rows...)
	}
	if len(check.Chain) > 1 {
		p.line("chain:")
		for _, link := range check.Chain {
			p.line("  %s, until %s", cmp.Or(link.Subject, "this certificate"), on(link.NotAfter))
		}
	}
}
