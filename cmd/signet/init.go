package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type initCmd struct {
	Dir             string   `default:"." placeholder:"DIR" help:"State directory to make or fill (default: here)."`
	PublicURL       string   `name:"public-url" placeholder:"URL" env:"SIGNET_PUBLIC_URL" help:"Base URL at which other machines reach the public listener; it goes into every certificate."`
	Local           bool     `help:"Accept a loopback URL: only this machine will be able to check certificates."`
	Database        string   `default:"sqlite:signet.db" env:"SIGNET_DATABASE" placeholder:"URL" help:"sqlite:FILE, or postgres://user@host/database."`
	Organization    string   `placeholder:"TEXT" help:"Organization in the subjects of both authorities."`
	RootName        string   `default:"Signet Root CA 1" placeholder:"TEXT" help:"Common name of the root."`
	IssuingName     string   `default:"Signet Issuing CA 1" placeholder:"TEXT" help:"Common name of the issuing authority."`
	RootKey         string   `default:"ecdsa-p384" placeholder:"ALG" help:"Key of the root: ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048, rsa-3072, rsa-4096, ed25519; built with Go 1.27 also ml-dsa-44, ml-dsa-65, ml-dsa-87."`
	IssuingKey      string   `default:"ecdsa-p256" placeholder:"ALG" help:"Key of the issuing authority."`
	RootLifetime    duration `default:"20y" placeholder:"DURATION" help:"Lifetime of the root."`
	IssuingLifetime duration `default:"10y" placeholder:"DURATION" help:"Lifetime of the issuing authority; below an off-line root its ceremony decides."`
	PassphraseFile  string   `placeholder:"FILE" help:"File with the passphrase of the keys; it is remembered in signet.yaml."`
	APIListen       string   `name:"api-listen" default:"127.0.0.1:8443" env:"SIGNET_API_LISTEN" placeholder:"ADDR" help:"Address for gRPC and REST."`
	PublicListen    string   `default:"127.0.0.1:8080" env:"SIGNET_PUBLIC_LISTEN" placeholder:"ADDR" help:"Address for CRL, OCSP and issuers."`
	OpsListen       string   `default:"127.0.0.1:9090" env:"SIGNET_OPS_LISTEN" placeholder:"ADDR" help:"Address for metrics and health."`
	OfflineRoot     string   `placeholder:"FILE" help:"Certificate of a root whose key is elsewhere (signet ceremony root): create no root, but a request for the issuing authority."`
	Certificate     string   `placeholder:"FILE" help:"Finish below an off-line root: the certificate that the ceremony made, followed by the root."`
	KeysStore       string   `name:"keys-store" default:"softkey" enum:"softkey,pkcs11" env:"SIGNET_KEYS_STORE" help:"Where keys are made: softkey (encrypted files) or pkcs11 (a token)." group:"Token"`
	Module          string   `name:"pkcs11-module" env:"SIGNET_KEYS_PKCS11_MODULE" placeholder:"FILE" help:"PKCS #11 library of the token." group:"Token"`
	Token           string   `name:"pkcs11-token" env:"SIGNET_KEYS_PKCS11_TOKEN" placeholder:"LABEL" help:"Label of the token." group:"Token"`
	PINFile         string   `name:"pkcs11-pin-file" env:"SIGNET_KEYS_PKCS11_PIN_FILE" placeholder:"FILE" help:"File with the user's PIN." group:"Token"`
	UnsafeDatabase  bool     `help:"Accept a PostgreSQL that can lose confirmed writes."`
	IfMissing       bool     `help:"Do nothing, successfully, if the directory has a signet.yaml already."`
}

// Help is shown by "signet init --help".
func (initCmd) Help() string {
	return `Prints what it made. Nothing that exists is overwritten. The passphrase comes from --passphrase-file, SIGNET_PASSPHRASE_FILE, SIGNET_PASSPHRASE, a systemd
credential or the terminal, never from the command line.

Examples:
  signet init --local
  signet init --dir /var/lib/signet --public-url http://pki.example --passphrase-file /etc/signet/passphrase
  signet init --public-url http://pki.example --database postgres://signet@db/signet
  signet init --public-url http://pki.example --keys-store pkcs11 --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --pkcs11-token ca --pkcs11-pin-file pin
  signet init --public-url http://pki.example --offline-root root.pem
  signet init --certificate issuing.pem`
}

// Run makes a CA.
func (c *initCmd) Run(a *app) error {
	if c.Certificate != "" {
		return c.finish(a)
	}
	config, err := c.config(a)
	if errors.Is(err, errPresent) {
		return a.show(map[string]any{"dir": c.Dir, "made": false}, func(p *printer) { p.line("%s is there already; nothing was done", settings.State{Dir: c.Dir}.Config()) })
	}
	if err != nil {
		return err
	}
	made, err := installation.Initialize(a.ctx, config)
	if err != nil {
		return err
	}
	return a.show(made, func(p *printer) { c.report(p, made) })
}

// finish certifies the issuing CA below an off-line root.
func (c *initCmd) finish(a *app) error {
	chain, err := a.readPEM(c.Certificate)
	if err != nil {
		return err
	}
	config, err := settings.Load(settings.State{Dir: c.Dir}.Config(), a.getenv)
	if err != nil {
		return err
	}
	passphrase, err := a.passphrase(cmp.Or(c.PassphraseFile, config.PassphraseFilePath()), false)
	if err != nil {
		return err
	}
	issuer, err := installation.ImportFirst(a.ctx, config, passphrase, []byte(chain), c.UnsafeDatabase)
	if err != nil {
		return err
	}
	return a.show(map[string]string{"issuer": issuer.ID.String(), "label": issuer.Label, "state": issuer.State.String()}, func(p *printer) {
		p.line("issuer %s (%s) is %s", issuer.Label, issuer.ID, issuer.State)
		p.next("signet serve --config %s, then signet crl import --issuer root with the list of the ceremony", config.State().Config())
	})
}

// errPresent is returned if --if-missing finds the state directory.
var errPresent = errors.New("the state directory is there already")

// config asks for missing values before anything is created.
func (c *initCmd) config(a *app) (installation.InitConfig, error) {
	if _, err := os.Stat(settings.State{Dir: c.Dir}.Config()); c.IfMissing && !errors.Is(err, fs.ErrNotExist) {
		return installation.InitConfig{}, errPresent
	}
	if err := (settings.State{Dir: c.Dir}).Vacant(); err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok && c.OfflineRoot != "" && filepath.Clean(c.OfflineRoot) == filepath.Clean((settings.State{Dir: c.Dir}).Root()) {
			return installation.InitConfig{}, e.
				WithHint("root.pem is the file that is made here: mv %s offline-root.pem, and give that with --offline-root", c.OfflineRoot)
		}
		return installation.InitConfig{}, err
	}
	if err := settings.CheckDatabase(c.Database); err != nil { // there is no signet.yaml yet that an error could name
		return installation.InitConfig{}, (&pki.Error{Kind: pki.KindInvalid, Op: "init", Err: err}).InField("--database")
	}
	out := installation.InitConfig{
		Dir: c.Dir, Database: c.Database, Organization: c.Organization, RootName: c.RootName, IssuingName: c.IssuingName,
		RootLifetime: time.Duration(c.RootLifetime), IssuingLifetime: time.Duration(c.IssuingLifetime),
		APIListen: c.APIListen, PublicListen: c.PublicListen, OpsListen: c.OpsListen, Unsafe: c.UnsafeDatabase,
	}
	var err error
	if c.OfflineRoot != "" {
		if out.OfflineRoot, err = a.readInput(c.OfflineRoot); err != nil {
			return out, err
		}
	}
	if out.Keys, err = c.keys(); err != nil {
		return out, err
	}
	if out.RootKey, err = keys.ParseAlgorithm(c.RootKey); err != nil {
		return out, (&pki.Error{Kind: pki.KindOf(err), Op: "init", Err: err}).InField("--root-key")
	}
	if out.IssuingKey, err = keys.ParseAlgorithm(c.IssuingKey); err != nil {
		return out, (&pki.Error{Kind: pki.KindOf(err), Op: "init", Err: err}).InField("--issuing-key")
	}
	if out.PublicURL, err = c.publicURL(a); err != nil {
		return out, err
	}
	if c.PassphraseFile != "" {
		if out.PassphraseFile, err = filepath.Abs(c.PassphraseFile); err != nil {
			return out, fileError("init", err)
		}
	}
	out.Passphrase, err = a.passphrase(c.PassphraseFile, true)
	return out, err
}

// keys returns where keys are made.
func (c *initCmd) keys() (k settings.KeysConfig, err error) {
	k = settings.KeysConfig{Store: c.KeysStore, PKCS11: settings.PKCS11Config{Module: c.Module, Token: c.Token, PINFile: c.PINFile}}
	if c.KeysStore == "softkey" {
		if c.Module != "" {
			return k, pki.Errorf(pki.KindInvalid, "init", "a token is named, and keys are to be made in files").InField("--keys-store").
				WithHint("use --keys-store pkcs11")
		}
		return k, nil
	}
	if c.Module == "" || c.Token == "" || c.PINFile == "" {
		return k, pki.Errorf(pki.KindInvalid, "init", "a token needs --pkcs11-module, --pkcs11-token and --pkcs11-pin-file").InField("--keys-store")
	}
	if k.PKCS11.PINFile, err = filepath.Abs(c.PINFile); err != nil {
		return k, fileError("init", err)
	}
	return k, nil
}

// publicURL returns the value given, a person's answer or, with --local, the address of the public listener.
func (c *initCmd) publicURL(a *app) (string, error) {
	const op = "init"
	url := c.PublicURL
	if url == "" && !c.Local {
		var err error
		url, err = a.ask("Base URL at which other machines will reach CRL and OCSP (such as http://pki.example; empty: this machine only): ")
		if err != nil {
			return "", &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
		}
	}
	if url = strings.TrimSuffix(url, "/"); url == "" {
		url = "http://" + reachable(c.PublicListen)
	}
	if err := settings.CheckPublicURL(url); err != nil {
		return "", (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("--public-url")
	}
	if settings.Loopback(url) && !c.Local {
		return "", pki.Errorf(pki.KindInvalid, op, "certificates would carry %s, a loopback URL that other machines cannot reach", url).InField("--public-url").
			WithHint("give --public-url http://NAME that others can reach, or use --local if only this machine will ever check")
	}
	return url, nil
}

// report tells a person what was created and what to do next.
func (c *initCmd) report(p *printer, made *installation.Initialized) {
	p.line("made a certification authority in %s", made.Dir)
	for _, issuer := range made.Issuers {
		p.line("")
		p.line("%s  %s", issuer.Label, issuer.Subject)
		key := cmp.Or(issuer.Key, "off-line")
		if issuer.KeyFile != "" {
			key = issuer.KeyFile + " (encrypted)"
		}
		p.fields("ends", cmp.Or(on(issuer.NotAfter), "waits for its certificate"), "sha256", issuer.Fingerprint, "issuer id", issuer.Issuer, "key", key)
	}
	p.line("")
	p.fields(
		"roots", made.Root+"  give this to everyone who is to trust your certificates",
		"token", made.Token+"  administrates; keep it secret; ends "+made.TokenEnds.UTC().Format(time.DateOnly),
		"database", made.Database,
		"settings", made.Config,
		"public URL", made.PublicURL+"  goes into every certificate",
	)
	if settings.Loopback(made.PublicURL) {
		p.line("")
		p.line("Certificates carry a loopback URL: other machines cannot check whether they are revoked.")
	} else if settings.Loopback("http://" + c.PublicListen) {
		p.line("")
		p.line("It listens on this machine only. Have %s forwarded to public.listen, or open public.listen and api.listen in %s.", made.PublicURL, made.Config)
	}
	p.line("Keep the passphrase and a backup (signet backup) in two places: without both the authority is lost.")
	if c.KeysStore == "pkcs11" {
		p.line("The keys are in the token and in no backup: copy them as the maker of the token has it.")
	}
	if made.Request != "" {
		p.next("carry %s to the root: signet ceremony sign --dir DIR --csr issuing.csr --present WHO --out issuing.pem; then signet init --dir %s --certificate FILE", made.Request, made.Dir)
		return
	}
	p.next("signet serve --config %s", made.Config)
}
