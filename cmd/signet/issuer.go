package main

import (
	"crypto/x509"
	"net"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/pki"
)

type issuerCmd struct {
	List      issuerListCmd      `cmd:"" help:"List the issuers: the certification authorities of the server."`
	Show      issuerShowCmd      `cmd:"" help:"Show an issuer, or print its certificates."`
	Create    issuerCreateCmd    `cmd:"" help:"Create an issuer: a root, one below another, or one whose parent is elsewhere."`
	Import    issuerImportCmd    `cmd:"" help:"Install a certificate that a parent elsewhere signed."`
	CrossSign issuerCrossSignCmd `cmd:"" help:"Have another root sign an issuer's name and key as well."`
	Adopt     issuerAdoptCmd     `cmd:"" help:"Take over an existing CA: an off-line root, or one with its key."`
	Renew     issuerRenewCmd     `cmd:"" help:"Renew an issuer's certificate, with the same name and key."`
	Choose    issuerChooseCmd    `cmd:"" help:"Choose which of an issuer's certificates is served first."`
	Rollover  issuerRolloverCmd  `cmd:"" help:"Replace an issuer by a successor with a new key, step by step."`
	Update    issuerUpdateCmd    `cmd:"" help:"Change where an issuer's CRLs, OCSP and certificate are served, or which issuer it succeeds."`
	Delete    issuerDeleteCmd    `cmd:"" help:"Delete an issuer that waits for its first certificate."`
	Bundle    issuerBundleCmd    `cmd:"" help:"Print the chains and roots that are valid on a date."`
	State     issuerStateCmd     `cmd:"" help:"Activate, disable or retire an issuer."`
}

type issuerListCmd struct{ serverFlags }

func (issuerListCmd) Help() string {
	return `Examples:
  signet issuer list

An issuer that does not stand issues nothing, whatever its state: its certificate or one above it is revoked or on hold, or
its key was compromised. Its lists and OCSP are still served.`
}

// Run prints every issuer.
func (c *issuerListCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return err
	}
	return a.show(map[string]any{"issuers": issuers}, func(p *printer) {
		var rows [][]string
		for _, i := range issuers {
			kind := "issuing"
			if i.Root {
				kind = "root"
			}
			succeeds := "-"
			for _, before := range issuers {
				if before.ID == i.Succeeds {
					succeeds = before.Label
				}
			}
			ends := "-" // no certificate yet
			if !i.NotAfter.IsZero() {
				ends = i.NotAfter.UTC().Format(time.DateOnly)
			}
			stands := "yes"
			switch {
			case i.UnusableReason != "":
				stands = "NO"
			case i.NotAfter.IsZero():
				stands = "-"
			}
			rows = append(rows, []string{i.ID.String(), i.Label, kind, i.State.String(), stands, i.KeyType, ends, succeeds, i.Subject})
		}
		p.table([]string{"ID", "LABEL", "KIND", "STATE", "STANDS", "KEY", "ENDS", "SUCCEEDS", "SUBJECT"}, rows)
		for _, i := range issuers {
			if i.UnusableReason != "" {
				p.line("%s does not stand: %s", i.Label, i.UnusableReason)
			}
		}
	})
}

type issuerShowCmd struct {
	Issuer string `arg:"" help:"Id or label."`
	PEM    bool   `name:"pem" help:"Print its certificate and those above it, the root too, in PEM, and nothing else."`
	serverFlags
}

func (issuerShowCmd) Help() string {
	return `What a TLS server sends is the chain without the root: signet issuer bundle --chain.

Examples:
  signet issuer show issuing
  signet issuer show --pem 0123456789abcdef0123 > chain-and-root.pem`
}

// Run prints one issuer.
func (c *issuerShowCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	id, err := findIssuer(a, api, c.Issuer)
	if err != nil {
		return err
	}
	issuer, err := api.Issuer(a.ctx, id)
	if err != nil {
		return err
	}
	if c.PEM {
		_, err := a.out.Write(issuer.PEM)
		return err
	}
	return a.show(issuer, func(p *printer) {
		p.line("issuer %s (%s): %s", issuer.Label, issuer.ID, issuer.State)
		keyAt := "not at this server"
		if issuer.Online {
			keyAt = "at this server"
		}
		succeeds := ""
		if !issuer.Succeeds.IsZero() {
			succeeds = issuer.Succeeds.String()
		}
		valid, fingerprint := "not yet: it has no certificate", ""
		if issuer.Fingerprint != "" {
			valid, fingerprint = span(issuer.NotBefore, issuer.NotAfter), "sha256 "+issuer.Fingerprint
		}
		p.fields("subject", issuer.Subject, "unusable reason", issuer.UnusableReason, "succeeds", succeeds, "valid", valid, "key", issuer.KeyType+", "+keyAt,
			"key hash", "sha256 "+issuer.KeyHash.String(), "fingerprint", fingerprint)
		p.fields(limitsOf(issuer.Certificates)...)
		if issuer.BaseURL != "" {
			ocsp := "" // there is no key to certify a responder
			if issuer.Online {
				ocsp = issuer.BaseURL + "/ocsp/" + issuer.ID.String()
			}
			p.fields("CRL", issuer.BaseURL+"/crl/"+issuer.ID.String()+".crl", "OCSP", ocsp, "certificate", issuer.BaseURL+"/issuers/"+issuer.ID.String()+".cer")
		}
	})
}

// limitsOf says who signed the first certificate of a CA, and what the CA may sign.
func limitsOf(certificates [][]byte) []string {
	if len(certificates) == 0 {
		return nil
	}
	c, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		return []string{"signed by", "not known: " + err.Error()}
	}
	below := "any number"
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		below = strconv.Itoa(c.MaxPathLen)
	}
	list := func(names []string) string { return strings.Join(names, ", ") }
	networks := func(ranges []*net.IPNet) (names []string) {
		for _, r := range ranges {
			names = append(names, r.String())
		}
		return names
	}
	return []string{"signed by", pki.NameText(c.RawIssuer), "authorities below", below,
		"only names", list(c.PermittedDNSDomains), "only mail", list(c.PermittedEmailAddresses), "only URIs", list(c.PermittedURIDomains), "only addresses", list(networks(c.PermittedIPRanges)),
		"never names", list(c.ExcludedDNSDomains), "never mail", list(c.ExcludedEmailAddresses), "never URIs", list(c.ExcludedURIDomains), "never addresses", list(networks(c.ExcludedIPRanges))}
}
