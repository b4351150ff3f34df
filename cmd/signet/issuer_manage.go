package main

import (
	"fmt"
	"slices"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

type issuerCreateCmd struct {
	Label        string   `arg:"" help:"A name for people, such as issuing-2: lower-case letters, digits, dots and hyphens."`
	CommonName   string   `required:"" placeholder:"TEXT" help:"Common name. A new key needs a new name, such as \"Example CA 2\"."`
	Organization string   `placeholder:"TEXT" help:"Organization in the subject."`
	Parent       string   `placeholder:"ID" help:"Id, label or name of the authority that signs it; without one it is a root."`
	Succeeds     string   `placeholder:"ID" help:"Id, label or name of the authority that it succeeds: requests that name none stay with that one until it is disabled."`
	Offline      bool     `help:"Its parent is elsewhere: print a request for it, and wait for signet issuer import."`
	KeyAlgorithm string   `default:"ecdsa-p256" placeholder:"ALG" help:"Its key."`
	Lifetime     duration `placeholder:"DURATION" help:"Lifetime (default: 20y for a root, 10y for others)."`
	BaseURL      string   `name:"base-url" placeholder:"URL" help:"Base of the URLs in what it issues (default: public_url)."`
	PathLength   *int     `placeholder:"N" help:"Authorities allowed below it (default: 0; for a root any number)."`
	constraintFlags
	Public bool `help:"It serves the public: stricter rules of revocation."`
	Yes    bool `help:"Create it beside another issuing authority without confirmation."`
	serverFlags
}

func (issuerCreateCmd) Help() string {
	return `The server makes the key and keeps it, encrypted. With --offline the request asks its parent for the path length and the names
given here; the parent decides about the lifetime.

A second issuing authority makes the choice ambiguous: requests that name none, under profiles that name none, are then
refused. So confirmation is required first. With --succeeds nothing changes for such requests.

Examples:
  signet issuer create issuing-2 --common-name "Example Issuing CA 2" --parent root
  signet issuer create issuing-2 --common-name "Example Issuing CA 2" --parent root --succeeds issuing
  signet issuer create plant --common-name "Plant CA" --parent root --permit-dns plant.example --permit-ip 10.1.0.0/16
  signet issuer create bridge --common-name "Bridge CA" --offline > bridge.csr`
}

// Run creates one issuer.
func (c *issuerCreateCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	n := client.IssuerSpec{
		Label: c.Label, Subject: client.Subject{CommonName: c.CommonName}, Algorithm: c.KeyAlgorithm, Public: c.Public, BaseURL: c.BaseURL, Lifetime: time.Duration(c.Lifetime),
		Offline: c.Offline, PathLength: c.PathLength, Permitted: client.NameConstraints(c.permitted()), Excluded: client.NameConstraints(c.excluded()),
	}
	if c.Organization != "" {
		n.Subject.Organization = []string{c.Organization}
	}
	if c.Parent != "" {
		if n.Parent, err = findIssuer(a, api, c.Parent); err != nil {
			return err
		}
	}
	if c.Succeeds != "" {
		if n.Succeeds, err = findIssuer(a, api, c.Succeeds); err != nil {
			return err
		}
	}
	if n.BaseURL, err = a.baseURL("create issuer", n.BaseURL); err != nil {
		return err
	}
	var others []string
	if !n.Offline && !n.Parent.IsZero() { // a root, or one that waits for its certificate, does not compete with others
		issuers, err := api.Issuers(a.ctx)
		if err != nil {
			return err
		}
		others = othersThatIssue(issuers, pki.IssuerID{}, n.Label, n.Succeeds)
	}
	if len(others) > 0 {
		if err := c.sureBeside(a, others); err != nil {
			return err
		}
	}
	made, err := api.CreateIssuer(a.ctx, n)
	if err != nil {
		return err
	}
	if len(made.CSRPEM) > 0 && !a.json {
		fmt.Fprintf(a.out, "%s", made.CSRPEM)
		a.note("issuer %s waits for its certificate\n\nnext: have this request signed, then signet issuer import FILE", made.Label)
		return nil
	}
	return a.show(made, func(p *printer) {
		p.line("made issuer %s (%s)", made.Label, made.ID)
		p.fields("subject", made.Subject, "valid", span(made.NotBefore, made.NotAfter), "fingerprint", "sha256 "+made.Fingerprint)
		if made.Root {
			p.next("signet issuer create LABEL --common-name TEXT --parent %s; make a backup, which holds its key", made.Label)
			return
		}
		if len(others) > 0 {
			p.line("")
			p.line("It is not alone: %s can issue too, so a request that names no issuer, under a profile that names none, is refused now.", sentence(others))
			p.line("Name one in the profile (issuer: %s). To disable %s is no way out: renewals of what it issued would wait. If %s is to take over from it: signet issuer update %s --succeeds %s.", made.Label, others[0], made.Label, made.Label, others[0])
		}
		p.next("signet issue --issuer %s NAME; make a backup, which holds its key", made.Label)
	})
}

// sureBeside asks for confirmation before the choice of an issuer becomes ambiguous.
func (c *issuerCreateCmd) sureBeside(a *app, others []string) error {
	const op = "create issuer"
	why := fmt.Sprintf("%s can issue too, so a request that names no issuer, under a profile that names none, would be refused as soon as %s is there", sentence(others), c.Label)
	if err := a.sure(op, c.Yes, why+". Create it anyway?"); err != nil {
		return pki.Errorf(pki.KindRefused, op, "%s; not confirmed: nothing was made", why).
			WithHint("use --succeeds %s if it succeeds that one, or --yes if requests are to name one from now on", others[len(others)-1])
	}
	return nil
}

// othersThatIssue returns the labels of the issuing CAs beside an existing one (id) or one to be created (zero): those
// that can issue, except those that it succeeds and those that succeed it, directly or through others.
func othersThatIssue(issuers []client.Issuer, id pki.IssuerID, label string, succeeds pki.IssuerID) (labels []string) {
	before := lineOf(issuers, succeeds)
	for _, issuer := range issuers {
		if issuer.Label != label && !issuer.Root && issuer.Online && issuer.State == client.IssuerActive &&
			!slices.Contains(before, issuer.ID) && !slices.Contains(lineOf(issuers, issuer.Succeeds), id) {
			labels = append(labels, issuer.Label)
		}
	}
	return labels
}

// lineOf returns an issuer, the one that it succeeds, and so on.
func lineOf(issuers []client.Issuer, id pki.IssuerID) (line []pki.IssuerID) {
	for !id.IsZero() {
		line = append(line, id)
		i := slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.ID == id })
		if i < 0 {
			return line // created or changed since they were listed
		}
		id = issuers[i].Succeeds
	}
	return line
}

type issuerImportCmd struct {
	File  string `arg:"" help:"Its certificate and those above it, in PEM; - is standard input."`
	Wider bool   `help:"Accept one that allows longer paths or more names than its request asks for, or than its present certificate; the audit log says so."`
	serverFlags
}

func (issuerImportCmd) Help() string {
	return `A certificate that allows longer paths or more names than its request asks for is refused, unless --wider says that it is meant.

Examples:
  signet issuer import bridge.pem
  signet issuer import bridge.pem --wider`
}

// Run imports a certificate for the issuer whose name and key it has.
func (c *issuerImportCmd) Run(a *app) error {
	text, err := a.readPEM(c.File)
	if err != nil {
		return err
	}
	return issuerCall(a, c.serverFlags, "has a certificate now", func(api *client.Client) (*client.Issuer, error) {
		return api.ImportIssuerCertificate(a.ctx, client.IssuerImport{PEM: text, Wider: c.Wider})
	})
}

type issuerCrossSignCmd struct {
	Issuer   string   `arg:"" help:"Id, label or name of the authority that is signed."`
	Parent   string   `arg:"" help:"Id, label or name of the authority that signs."`
	Lifetime duration `placeholder:"DURATION" help:"Lifetime of the certificate."`
	serverFlags
}

func (issuerCrossSignCmd) Help() string {
	return `Makes another certificate of the same name and key, under another root: clients that trust either can check.

Examples:
  signet issuer cross-sign issuing-2 root`
}

// Run has one issuer sign another.
func (c *issuerCrossSignCmd) Run(a *app) error {
	return issuerCall(a, c.serverFlags, "has one more certificate", func(api *client.Client) (*client.Issuer, error) {
		issuer, err := findIssuer(a, api, c.Issuer)
		if err != nil {
			return nil, err
		}
		parent, err := findIssuer(a, api, c.Parent)
		if err != nil {
			return nil, err
		}
		return api.CrossSignIssuer(a.ctx, issuer, parent, time.Duration(c.Lifetime))
	})
}

type issuerStateCmd struct {
	Issuer string `arg:"" help:"Id, label or name."`
	State  string `arg:"" enum:"active,disabled,retired" help:"active: it issues; disabled: not for now; retired: never again. Renewals of what a disabled one issued wait, unless another one succeeds it."`
	Yes    bool   `help:"Retire it without confirmation."`
	serverFlags
}

func (issuerStateCmd) Help() string {
	return `CRLs and OCSP continue in every state, because issued certificates must stay checkable. A disabled issuer can be made active
again, a retired one cannot.

Examples:
  signet issuer state issuing disabled
  signet issuer state issuing active
  signet issuer state issuing retired --yes`
}

// Run changes what an issuer does.
func (c *issuerStateCmd) Run(a *app) error {
	states := map[string]client.IssuerState{"active": client.IssuerActive, "disabled": client.IssuerDisabled, "retired": client.IssuerRetired}
	return issuerCall(a, c.serverFlags, "is "+c.State, func(api *client.Client) (*client.Issuer, error) {
		find := findIssuer
		if c.State == "retired" {
			find = findIssuerForGood
		}
		issuer, err := find(a, api, c.Issuer)
		if err != nil {
			return nil, err
		}
		if err := a.sure("change issuer", c.Yes || c.State != "retired", c.Issuer+" will never issue again. Retire it, for good?"); err != nil {
			return nil, err
		}
		changed, err := api.SetIssuerState(a.ctx, issuer, states[c.State])
		if err != nil || c.State != "disabled" {
			return changed, err
		}
		if wait, err := renewalsWait(a, api, issuer); err != nil {
			a.note("whether renewals of what %s issued wait now could not be determined: %v", changed.Label, err)
		} else if wait {
			a.note("careful: renewals of what %s issued wait until it is active again, or retired for good, or another authority succeeds it: signet issuer update NAME --succeeds %s", changed.Label, changed.Label)
		}
		return changed, nil
	})
}

// renewalsWait reports whether an issuer has valid certificates, other than Signet's own, that will not be renewed once
// it is disabled, because no issuing CA succeeds it, directly or through others. It is false for a root, which
// certifies CAs.
func renewalsWait(a *app, api *client.Client, id pki.IssuerID) (bool, error) {
	issuers, err := api.Issuers(a.ctx)
	if err != nil {
		return false, err
	}
	for _, issuer := range issuers {
		if issuer.ID == id && issuer.Root || issuer.State == client.IssuerActive && slices.Contains(lineOf(issuers, issuer.Succeeds), id) {
			return false, nil
		}
	}
	count, err := api.CountCertificates(a.ctx, client.CertificateFilter{Issuer: id, Standing: client.StandingValid, NotAccount: client.AccountSystem})
	return err == nil && count.Count > 0, err
}

// issuerCall makes a call that returns an issuer, and prints the result.
func issuerCall(a *app, flags serverFlags, done string, call func(*client.Client) (*client.Issuer, error)) error {
	api, err := a.connect(flags)
	if err != nil {
		return err
	}
	defer api.Close()
	issuer, err := call(api)
	if err != nil {
		return err
	}
	return a.show(issuer, func(p *printer) {
		p.line("issuer %s (%s) %s; its certificate ends %s", issuer.Label, issuer.ID, done, on(issuer.NotAfter))
		p.next("signet issuer show %s", issuer.Label)
	})
}
