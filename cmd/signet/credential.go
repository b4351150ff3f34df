package main

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/installation"
	"signet.example/signet/pki"
)

type credentialCmd struct {
	Create  credentialCreateCmd  `cmd:"" help:"Create a bearer token, or bind a client certificate."`
	List    credentialListCmd    `cmd:"" help:"List credentials."`
	Disable credentialDisableCmd `cmd:"" help:"Disable a credential for good."`
	Whoami  credentialWhoamiCmd  `cmd:"" help:"Show how the server identifies you."`
}

type credentialCreateCmd struct {
	Name           string   `arg:"" help:"Its name: letters, digits, dots, hyphens and underscores; unique for ever."`
	Role           string   `required:"" enum:"admin,requester,approver,auditor" placeholder:"ROLE" help:"admin, requester, approver or auditor."`
	Account        string   `placeholder:"NAME" help:"Account of the certificates that it requests (default: its name)."`
	Profiles       []string `placeholder:"NAME" help:"The only profiles it may issue under, or approve (default: every one that its role may use)."`
	Lifetime       duration `placeholder:"DURATION" help:"Lifetime (default: 90d for a token)."`
	Out            string   `short:"o" placeholder:"FILE" help:"Write the token here, for you only (default: NAME.token)."`
	Identifier     string   `placeholder:"NAME" help:"Instead of a token: the name in the client certificate."`
	ClientKey      string   `placeholder:"HEX" help:"Instead of a token: SHA-256 of the SubjectPublicKeyInfo of the client certificate."`
	Issuer         string   `placeholder:"NAME" help:"The issuer (id, label or name) of the client certificate; with --identifier or --client-key."`
	UnsafeDatabase bool     `hidden:"" help:"Accept a PostgreSQL that can lose confirmed writes."`
	Recover        bool     `help:"Make an administrator in the database of this configuration, without a server or a credential: if no valid one is left. Stop a server on SQLite first."`
	serverFlags
}

func (credentialCreateCmd) Help() string {
	return `The token goes into a file, never to the screen: screens are logged.

Examples:
  signet credential create ci --role requester --profiles server
  signet credential create security --role approver --profiles code-signing
  signet credential create watcher --role auditor --lifetime 30d --out /etc/watcher.token
  signet credential create agent --role requester --identifier agent.example --issuer issuing
  signet credential create admin-2 --role admin --recover      # on the server's machine: the last token of an administrator is lost`
}

// Run creates one credential.
func (c *credentialCreateCmd) Run(a *app) error {
	const op = "create credential"
	role, err := client.ParseRole(c.Role)
	if err != nil {
		return &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	if c.Recover {
		return c.recover(a)
	}
	request := client.CredentialRequest{Name: c.Name, Role: role, Account: c.Account, Profiles: c.Profiles, Lifetime: time.Duration(c.Lifetime), Identifier: c.Identifier}
	if c.ClientKey != "" {
		if request.KeyHash, err = pki.ParseKeyHash(c.ClientKey); err != nil {
			return &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
		}
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if request.Issuer, err = optionalIssuer(a, api, c.Issuer); err != nil {
		return err
	}
	if err := c.lookForProfiles(a, api); err != nil {
		return err
	}
	if c.Identifier != "" || c.ClientKey != "" {
		return c.bind(a, api, request)
	}
	return c.token(a, api, request)
}

// lookForProfiles warns of names that may be mistyped. A credential may be created before the profiles that it names.
func (c *credentialCreateCmd) lookForProfiles(a *app, api *client.Client) error {
	if len(c.Profiles) == 0 {
		return nil
	}
	loaded, err := api.Profiles(a.ctx)
	if err != nil {
		return err
	}
	for _, name := range c.Profiles {
		if !slices.ContainsFunc(loaded, func(p client.Profile) bool { return p.Name == name }) {
			a.note("careful: no profile is called %q; see: signet profile list", name)
		}
	}
	return nil
}

// recover creates an administrator directly in the database.
func (c *credentialCreateCmd) recover(a *app) error {
	const op = "create credential"
	if c.Role != "admin" || c.Account != "" || len(c.Profiles) > 0 || c.Lifetime != 0 || c.Identifier != "" || c.ClientKey != "" {
		return pki.Errorf(pki.KindInvalid, op, "--recover makes an administrator's token and nothing else").
			WithHint("signet credential create %s --role admin --recover; it can make the others", c.Name)
	}
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	path, err := c.file()
	if err != nil {
		return err
	}
	ends, err := installation.CreateAdmin(a.ctx, config, c.Name, path, c.UnsafeDatabase)
	if err != nil {
		return err
	}
	return a.show(recovered{c.Name, path, ends}, func(p *printer) {
		p.line("made credential %s, of an administrator; it ends %s", c.Name, on(ends))
		p.fields("token", path+" (readable by you only; the server keeps a hash)")
		p.next("signet credential list --token-file %s; to disable what is no longer used: signet credential disable NAME", path)
	})
}

// recovered is what `signet credential create --recover --output json` prints.
type recovered struct {
	Name      string    `json:"name"`
	TokenFile string    `json:"token_file"`
	Ends      time.Time `json:"ends"`
}

// file returns the path of the token's file.
func (c *credentialCreateCmd) file() (string, error) {
	if strings.ContainsAny(c.Name, "/\\") && c.Out == "" {
		return "", pki.Errorf(pki.KindInvalid, "create credential", "%q is no name", c.Name)
	}
	return cmp.Or(c.Out, c.Name+".token"), nil
}

// token requests a token. It creates the file first: a token that cannot be written would be lost.
func (c *credentialCreateCmd) token(a *app, api *client.Client, request client.CredentialRequest) error {
	path, err := c.file()
	if err != nil {
		return err
	}
	if err := durable.WriteNew(path, nil, 0o600); err != nil {
		return err
	}
	made, err := api.CreateToken(a.ctx, request)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := durable.Replace(path, []byte(made.Token+"\n"), 0o600); err != nil {
		_, disabled := api.DisableCredential(a.ctx, c.Name)
		return errors.Join(pki.Errorf(pki.KindUnavailable, "create credential", "write its token: %w", err).
			WithHint("credential %s is disabled again, since its token is lost: make another, under another name", c.Name), disabled, os.Remove(path))
	}
	return a.show(credentialResult{&made.Credential, path}, func(p *printer) {
		p.line("made credential %s", made.Credential.Name)
		printCredential(p, &made.Credential, "token", path+" (readable by you only; the server keeps a hash)")
		first := "signet list"
		if made.Credential.Role == client.RoleApprover {
			first = "signet requests list"
		}
		p.server = "" // the new one is tried
		p.next(first+" --token-file %s", path)
	})
}

func (c *credentialCreateCmd) bind(a *app, api *client.Client, request client.CredentialRequest) error {
	made, err := api.BindCertificate(a.ctx, request)
	if err != nil {
		return err
	}
	return a.show(credentialResult{made, ""}, func(p *printer) {
		p.line("client certificates may now call as %s", made.Name)
		printCredential(p, made)
		p.server = "" // the new one is tried
		p.next("signet list --cert FILE --cert-key FILE")
	})
}

// credentialResult is what `signet credential create --output json` prints.
type credentialResult struct {
	Credential *client.Credential `json:"credential"`
	TokenFile  string             `json:"token_file,omitempty"`
}

func printCredential(p *printer, c *client.Credential, more ...string) {
	name, key := "", ""
	if c.Identifier != (pki.Identifier{}) {
		name = c.Identifier.String()
	}
	if c.KeyHash != (pki.KeyHash{}) {
		key = c.KeyHash.String()
	}
	p.fields(append([]string{"role", c.Role.String(), "account", c.Account, "profiles", profilesOf(c.Role, c.Profiles), "kind", c.Kind, "name in it", name,
		"key", key, "ends", on(c.ExpiresAt), "disabled", on(c.DisabledAt)}, more...)...)
}

// everyProfile reports whether a credential may use every profile that its role may, because none was named for it.
func everyProfile(role client.Role, only []string) bool {
	return len(only) == 0 && (role == client.RoleAdmin || role == client.RoleRequester || role == client.RoleApprover)
}

// profilesOf says which profiles a credential may issue under, or approve; empty: none.
func profilesOf(role client.Role, only []string) string {
	if everyProfile(role, only) {
		return "every one that its role may use (signet profile list)"
	}
	return sentence(only)
}

type credentialListCmd struct{ serverFlags }

func (credentialListCmd) Help() string {
	return `Examples:
  signet credential list`
}

// Run prints every credential.
func (c *credentialListCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	list, err := whole(api.AllCredentials(a.ctx))
	if err != nil {
		return err
	}
	return a.show(credentialList{list}, func(p *printer) {
		var rows [][]string
		for _, c := range list {
			ends := "never"
			if !c.ExpiresAt.IsZero() {
				ends = c.ExpiresAt.UTC().Format(time.DateOnly)
			}
			profiles := cmp.Or(sentence(c.Profiles), "-")
			if everyProfile(c.Role, c.Profiles) {
				profiles = "every"
			}
			rows = append(rows, []string{c.Name, c.Role.String(), c.Account, profiles, c.Kind, credentialState(c, time.Now()), ends})
		}
		p.table([]string{"NAME", "ROLE", "ACCOUNT", "PROFILES", "KIND", "STATE", "ENDS"}, rows)
	})
}

// credentialState returns the state of a credential at a time.
func credentialState(c client.Credential, at time.Time) string {
	switch {
	case !c.DisabledAt.IsZero():
		return "disabled"
	case !c.ExpiresAt.IsZero() && !at.Before(c.ExpiresAt):
		return "expired"
	}
	return "in force"
}

// credentialList is what `signet credential list --output json` prints.
type credentialList struct {
	Credentials []client.Credential `json:"credentials"`
}

type credentialDisableCmd struct {
	Name string `arg:"" help:"Its name."`
	Yes  bool   `help:"Disable the credential in use without confirmation."`
	serverFlags
}

func (credentialDisableCmd) Help() string {
	return `Calls that carry it are refused from then on. There is no way back: make a new one.

Examples:
  signet credential disable ci`
}

// Run disables one credential.
func (c *credentialDisableCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if err := c.consider(a, api); err != nil {
		return err
	}
	disabled, err := api.DisableCredential(a.ctx, c.Name)
	if err != nil {
		return err
	}
	return a.show(disabled, func(p *printer) {
		p.line("credential %s is disabled for good", disabled.Name)
		p.next("signet list --account %[1]s shows what it was issued, signet revoke --where account=%[1]s revokes that", disabled.Account)
	})
}

// consider asks for confirmation before the caller would be locked out.
func (c *credentialDisableCmd) consider(a *app, api *client.Client) error {
	me, err := api.WhoAmI(a.ctx)
	if err != nil {
		return err
	}
	if _, own, _ := strings.Cut(me.Principal, ":"); own != c.Name {
		return nil // an administrator is left: the caller
	}
	return a.sure("disable credential", c.Yes, c.Name+" is the credential that you use. Disable it, for good?")
}

type credentialWhoamiCmd struct{ serverFlags }

func (credentialWhoamiCmd) Help() string {
	return `Examples:
  signet credential whoami --token-file ci.token`
}

// Run prints the caller's credential.
func (c *credentialWhoamiCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	me, err := api.WhoAmI(a.ctx)
	if err != nil {
		return err
	}
	return a.show(me, func(p *printer) {
		p.line("to this server you are %s", me.Principal)
		p.fields("role", me.Role.String(), "account", me.Account, "profiles", profilesOf(me.Role, me.Profiles))
	})
}
