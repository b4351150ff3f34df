package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/smallstep/truststore"

	"signet.example/signet/pki"
)

type trustCmd struct {
	Install   trustInstallCmd   `cmd:"" help:"Make this machine trust a root."`
	Uninstall trustUninstallCmd `cmd:"" help:"Stop trusting a root on this machine."`
}

// storeFlags say which root, and which trust stores.
type storeFlags struct {
	File   string   `arg:"" optional:"" help:"The root, in PEM or DER (default: client.root of the configuration)."`
	Stores []string `default:"system" enum:"system,nss,java" help:"Stores: system, nss (Firefox, Chromium; of this user), java (JAVA_HOME)."`
	DryRun bool     `help:"Show only what would be done."`
}

type trustInstallCmd struct{ storeFlags }

func (trustInstallCmd) Help() string {
	return `Anyone with the key of this root can then impersonate any site to programs that use the store. Changing the system's store
requires root; sudo is used if it is there.

Examples:
  signet trust install --dry-run
  signet trust install root.pem --stores system,nss
  signet trust uninstall root.pem --stores system,nss`
}

// Run installs the root.
func (c *trustInstallCmd) Run(a *app) error { return c.run(a, true) }

type trustUninstallCmd struct{ storeFlags }

func (trustUninstallCmd) Help() string {
	return `Examples:
  signet trust uninstall root.pem --stores system,nss,java`
}

// Run uninstalls the root.
func (c *trustUninstallCmd) Run(a *app) error { return c.run(a, false) }

// trustResult is what `signet trust --output json` prints.
type trustResult struct {
	Root   string   `json:"root"` // SHA-256 of the certificate
	Stores []string `json:"stores"`
	Steps  []string `json:"steps"`
	DryRun bool     `json:"dry_run"`
}

// storeNeeds says what a store requires, in case it is missing.
var storeNeeds = map[string]string{
	"system": "put root.pem where this system keeps the roots it trusts, by hand",
	"nss":    "it needs certutil (Debian: libnss3-tools; Fedora: nss-tools; macOS: nss) and a database, which Firefox or Chromium makes when this user starts it first; or make one: certutil -N --empty-password -d sql:$HOME/.pki/nssdb",
	"java":   "it needs keytool, and JAVA_HOME set to a JDK or JRE that has lib/security/cacerts",
}

func (f *storeFlags) run(a *app, install bool) error {
	root, err := f.root(a)
	if err != nil {
		return err
	}
	fingerprint := sha256.Sum256(root.Raw)
	result := trustResult{Root: hex.EncodeToString(fingerprint[:]), Stores: []string{}, Steps: []string{}, DryRun: f.DryRun}
	// The errors of stores that cannot be changed. Those after the first are left alone, unless nothing is to be
	// changed, and the changes made are reported.
	var failed error
	for _, store := range f.Stores {
		steps, err := f.store(store, root, install)
		if err != nil {
			failed = errors.Join(failed, pki.Errorf(pki.KindFailedPrecondition, "change trust", "%s: %w", store, err).WithHint("%s", need(store, install)))
			if f.DryRun {
				continue
			}
			break
		}
		result.Stores, result.Steps = append(result.Stores, store), append(result.Steps, steps...)
	}
	if failed != nil && len(result.Stores) == 0 {
		return failed
	}
	return errors.Join(failed, a.show(result, func(p *printer) {
		did := map[bool]string{true: "installed in", false: "removed from"}[install]
		if f.DryRun {
			did = "would be " + did
		}
		p.line("%s %s %s", root.Subject, did, sentence(result.Stores))
		p.fields("sha256", result.Root)
		for _, step := range result.Steps {
			p.line("  %s", step)
		}
	}))
}

// need returns what to do about a store that could not be changed.
func need(store string, install bool) string {
	if store == "system" && os.Geteuid() > 0 {
		return "only root may change the store of the system: sudo signet trust " + map[bool]string{true: "install", false: "uninstall"}[install] + " with the file of the root"
	}
	return storeNeeds[store]
}

// root reads the root and refuses anything else: an installed root is trusted for every name.
func (f *storeFlags) root(a *app) (*x509.Certificate, error) {
	path := f.File
	if path == "" {
		config, err := a.loadConfig()
		if err != nil {
			return nil, err
		}
		path = config.Path(config.Client.Root)
	}
	root, err := a.readCertificate(path)
	if err != nil {
		return nil, err
	}
	if !root.IsCA || !bytes.Equal(root.RawIssuer, root.RawSubject) || root.CheckSignatureFrom(root) != nil {
		return nil, pki.Errorf(pki.KindInvalid, "change trust", "%s is not a root", path).
			WithHint("`signet issuer list` shows the root; root.pem lies beside signet.yaml")
	}
	return root, nil
}

// store changes one store and returns the steps.
func (f *storeFlags) store(name string, root *x509.Certificate, install bool) (steps []string, err error) {
	// The library would name files and entries after the common name, which may contain anything.
	const prefix = "signet-root-"
	label := prefix + root.SerialNumber.String()
	options := []truststore.Option{truststore.WithPrefix(prefix), truststore.WithNoSystem()}
	switch name {
	case "system":
		if truststore.SystemTrustCommand == nil {
			return nil, fmt.Errorf("the layout of this system is not known")
		}
		path := fmt.Sprintf(truststore.SystemTrustFilename, label)
		verb := map[bool]string{true: "write ", false: "remove "}[install]
		steps, options = []string{verb + path, "run " + strings.Join(truststore.SystemTrustCommand, " ")}, options[:1]
	case "nss":
		trust, err := truststore.NewNSSTrust()
		if err == nil {
			err = trust.PreCheck()
		}
		if err != nil {
			return nil, errors.New("there is no database of NSS here, or no certutil")
		}
		steps = []string{fmt.Sprintf("run certutil on every database of this user, as %q", label)}
		options = append(options, truststore.WithTrust(trust))
	case "java":
		trust, err := truststore.NewJavaTrust()
		if err != nil {
			return nil, errors.New("no key store of Java was found")
		}
		steps = []string{fmt.Sprintf("run keytool on cacerts of JAVA_HOME, as %q", label)}
		options = append(options, truststore.WithTrust(trust))
	}
	switch {
	case f.DryRun:
		return steps, nil
	case install:
		return steps, truststore.Install(root, options...)
	}
	return steps, truststore.Uninstall(root, options...)
}
