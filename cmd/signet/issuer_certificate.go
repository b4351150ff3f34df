package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type issuerRenewCmd struct {
	Issuer   string   `arg:"" help:"Id, label or name."`
	Lifetime duration `placeholder:"DURATION" help:"Lifetime of the certificate (default: 20y for a root, 10y for others)."`
	serverFlags
}

func (issuerRenewCmd) Help() string {
	return `The new certificate has the same name, key and constraints. The authority above it signs, which must be at this server; a root
signs itself. Certificates that it issued stay valid under either one. For a new key: signet issuer rollover.

Examples:
  signet issuer renew issuing`
}

// Run renews one issuer.
func (c *issuerRenewCmd) Run(a *app) error {
	return issuerCall(a, c.serverFlags, "has a new certificate", func(api *client.Client) (*client.Issuer, error) {
		issuer, err := findIssuer(a, api, c.Issuer)
		if err != nil {
			return nil, err
		}
		return api.RenewIssuer(a.ctx, issuer, time.Duration(c.Lifetime))
	})
}

type issuerChooseCmd struct {
	Issuer      string `arg:"" help:"Id, label or name."`
	Certificate string `arg:"" help:"File with the certificate, or its SHA-256."`
	serverFlags
}

func (issuerChooseCmd) Help() string {
	return `Of a renewed or cross-signed issuer one certificate is served at the URL in what it issued, and sent in chains.

Examples:
  signet issuer choose issuing-2 issuing-2-by-old-root.pem`
}

// Run chooses a certificate.
func (c *issuerChooseCmd) Run(a *app) error {
	fingerprint := strings.ToLower(strings.ReplaceAll(c.Certificate, ":", ""))
	if len(fingerprint) != 64 || strings.Trim(fingerprint, "0123456789abcdef") != "" {
		certificate, err := a.readCertificate(c.Certificate)
		if err != nil {
			return err
		}
		fingerprint = fmt.Sprintf("%x", sha256.Sum256(certificate.Raw))
	}
	return issuerCall(a, c.serverFlags, "serves this certificate first", func(api *client.Client) (*client.Issuer, error) {
		issuer, err := findIssuer(a, api, c.Issuer)
		if err != nil {
			return nil, err
		}
		return api.ChooseIssuerCertificate(a.ctx, issuer, fingerprint)
	})
}

type issuerUpdateCmd struct {
	Issuer         string `arg:"" help:"Id, label or name."`
	BaseURL        string `name:"base-url" placeholder:"URL" help:"Where its lists, OCSP and certificate are served from now on."`
	Succeeds       string `placeholder:"ID" xor:"succession" help:"Id, label or name of the authority that it succeeds: requests that name none stay with that one until it is disabled."`
	SucceedsNobody bool   `xor:"succession" help:"It succeeds no other authority any more."`
	serverFlags
}

func (issuerUpdateCmd) Help() string {
	return `Certificates keep the URLs they were issued with, and so does the rest of a range of serial numbers that is already reserved:
keep the old address answering until the last of them has expired.

--succeeds does for existing authorities what signet issuer create --succeeds does for a new one: the issuer takes over, and
renews what the other issued, once that one is disabled. Nothing is signed for it, and what either may sign does not change.

Examples:
  signet issuer update issuing --base-url http://status.example
  signet issuer update issuing-2 --succeeds issuing`
}

// Run changes one issuer.
func (c *issuerUpdateCmd) Run(a *app) error {
	if c.BaseURL == "" && c.Succeeds == "" && !c.SucceedsNobody {
		return pki.Errorf(pki.KindInvalid, "update issuer", "no change is given").
			WithHint("use --base-url URL, --succeeds ID or --succeeds-nobody")
	}
	var done []string
	var change client.IssuerChange
	if c.BaseURL != "" {
		change.BaseURL = new(strings.TrimSuffix(c.BaseURL, "/"))
		done = append(done, "is served at "+*change.BaseURL)
	}
	switch {
	case c.Succeeds != "":
		done = append(done, "succeeds "+c.Succeeds)
	case c.SucceedsNobody:
		done = append(done, "succeeds nobody")
	}
	return issuerCall(a, c.serverFlags, strings.Join(done, " and "), func(api *client.Client) (*client.Issuer, error) {
		issuer, err := findIssuer(a, api, c.Issuer)
		if err != nil {
			return nil, err
		}
		if c.Succeeds != "" || c.SucceedsNobody {
			change.Succeeds = new(pki.IssuerID)
		}
		if c.Succeeds != "" {
			if *change.Succeeds, err = findIssuer(a, api, c.Succeeds); err != nil {
				return nil, err
			}
		}
		changed, err := api.UpdateIssuer(a.ctx, issuer, change)
		if err == nil && change.Succeeds != nil {
			noteBeside(a, api, changed)
		}
		return changed, err
	})
}

// noteBeside warns if requests that name no issuer will be refused because other issuers also issue, after the
// succession of one was changed.
func noteBeside(a *app, api *client.Client, changed *client.Issuer) {
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		a.note("whether another authority issues beside %s could not be determined: %v", changed.Label, err)
		return
	}
	others := othersThatIssue(issuers, changed.ID, changed.Label, changed.Succeeds)
	if changed.Root || !changed.Online || changed.State != client.IssuerActive || len(others) == 0 {
		return
	}
	a.note("careful: %s can issue too, so a request that names no issuer, under a profile that names none, is refused", sentence(others))
}

type issuerDeleteCmd struct {
	Issuer string `arg:"" help:"Id, label or name."`
	Yes    bool   `help:"Delete it without confirmation."`
	serverFlags
}

func (issuerDeleteCmd) Help() string {
	return `For an authority whose request went to its parent and is no longer wanted, or asks for the wrong thing. One that has, or had,
a certificate is retired instead (signet issuer state), because what it signed must stay checkable.

Its name is free at once. Its key stays where it is, and no other authority is created with it: the parent may yet sign the
request. Its label is free when the key has been removed from the key store: keys/LABEL.key at each instance that has it, or
the object LABEL in the token and keys/LABEL.serial. If its certificate arrives after all, and is wanted: signet issuer adopt
LABEL FILE --key URI --no-crl.

Examples:
  signet issuer delete bridge`
}

// Run deletes one issuer.
func (c *issuerDeleteCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	id, err := findIssuerForGood(a, api, c.Issuer)
	if err != nil {
		return err
	}
	issuer, err := api.Issuer(a.ctx, id)
	if err != nil {
		return err
	}
	pending := issuer.State == client.IssuerPending // the server refuses any other
	if err := a.sure("delete issuer", c.Yes || !pending, "The certificate that "+c.Issuer+" waits for will no longer be accepted. Delete it?"); err != nil {
		return err
	}
	left, err := api.DeleteIssuer(a.ctx, id)
	if err != nil {
		return err
	}
	return a.show(left, func(p *printer) {
		p.line("issuer %s (%s) is deleted; nothing was certified for it", c.Issuer, id)
		p.line("Its key, %s, stays in the key store. No authority is created with it again, nor with its label while it is there.", left.KeyURI)
		p.next("tell the holder of its request, if it was sent; remove the key from the key store")
	})
}

type issuerBundleCmd struct {
	Issuer string  `arg:"" help:"Id, label or name."`
	At     instant `placeholder:"TIME" help:"The date that the bundle is for (default: now)."`
	Roots  bool    `help:"Print only the roots that are valid then, in PEM." xor:"what"`
	Chain  bool    `help:"Print only the certificates between, the issuer's first, in PEM." xor:"what"`
	serverFlags
}

func (issuerBundleCmd) Help() string {
	return `Shows every path from an issuer to a root, and when it is valid: with renewed and cross-signed certificates there are several,
and a client needs only one of the roots. The public listener serves the same as /issuers/ID/chain.pem and
/issuers/ID/roots.pem, with ?at=DATE.

Examples:
  signet issuer bundle issuing
  signet issuer bundle issuing --roots --at 2035-01-01 > trust-2035.pem
  signet issuer bundle issuing --chain | openssl verify -CAfile root.pem -untrusted /dev/stdin app.pem`
}

// Run prints a bundle.
func (c *issuerBundleCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	id, err := findIssuer(a, api, c.Issuer)
	if err != nil {
		return err
	}
	bundle, err := api.IssuerBundle(a.ctx, id, c.At.Time)
	if err != nil {
		return err
	}
	if c.Roots || c.Chain {
		text := bundle.RootsPEM
		if c.Chain {
			text = bundle.ChainPEM
		}
		if len(text) == 0 {
			return pki.Errorf(pki.KindNotFound, "get bundle", "no path to a root is valid at %s", on(bundle.At)).
				WithHint("signet issuer bundle %s shows when one is", c.Issuer)
		}
		_, err := a.out.Write(text)
		return err
	}
	return a.show(bundle, func(p *printer) {
		p.line("ways to a root, at %s", on(bundle.At))
		var rows [][]string
		for _, path := range bundle.Paths {
			holds := "no"
			if path.Valid {
				holds = "yes"
			}
			rows = append(rows, []string{holds, path.NotBefore.UTC().Format(time.DateOnly), path.NotAfter.UTC().Format(time.DateOnly), strings.Join(path.Subjects, " < ")})
		}
		p.table([]string{"HOLDS", "FROM", "UNTIL", "WAY"}, rows)
		p.next("signet issuer bundle %s --roots > trust.pem", c.Issuer)
	})
}
