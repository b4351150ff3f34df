package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/ceremony"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type ceremonyCmd struct {
	Root      ceremonyRootCmd   `cmd:"" help:"Make a root: its key, and the certificate that it signs for itself."`
	Sign      ceremonySignCmd   `cmd:"" help:"Sign the request of an issuing authority."`
	CrossSign ceremonyCrossCmd  `cmd:"" help:"Sign the name and key of another root."`
	CRL       ceremonyCRLCmd    `cmd:"" name:"crl" help:"Sign the root's revocation list, the first or a later one."`
	Verify    ceremonyVerifyCmd `cmd:"" help:"Verify a ceremony record and everything signed under it."`
}

// ceremonyFlags are the flags of every ceremony.
type ceremonyFlags struct {
	Dir            string   `default:"." placeholder:"DIR" help:"Directory of the root: its state, key and records (default: here)."`
	Present        []string `sep:"none" placeholder:"WHO" help:"A person who is present: \"Ada Lovelace, key holder\". Repeat the flag for each."`
	Place          string   `placeholder:"TEXT" help:"Where it is held."`
	Rehearse       bool     `help:"Show every step; create, sign and store nothing."`
	Yes            bool     `short:"y" help:"Sign without confirmation. For scripts; the record says so."`
	Store          string   `default:"softkey" enum:"softkey,pkcs11" help:"Where the key of a new root is made: softkey (an encrypted file) or pkcs11 (a token)."`
	Module         string   `placeholder:"FILE" help:"PKCS #11 library of the token." group:"Token"`
	Token          string   `placeholder:"LABEL" help:"Label of the token." group:"Token"`
	PINFile        string   `name:"pin-file" placeholder:"FILE" help:"File with the user's PIN." group:"Token"`
	PassphraseFile string   `placeholder:"FILE" help:"File with the passphrase of the keys; see signet init --help for the other ways."`
}

// ceremonyDone is what a ceremony prints.
type ceremonyDone struct {
	*ceremony.Result
	Out string `json:"out,omitempty"` // the copy that was requested
}

// weakKeysFlag is the flag of ceremonies that certify a key.
type weakKeysFlag struct {
	WeakKeys string `placeholder:"FILE" help:"Keys that are not certified, as in weak_keys of signet.yaml: one a line, the SHA-256 of the SubjectPublicKeyInfo, a space and the reason."`
}

// read reads the list; without the flag it is empty.
func (f weakKeysFlag) read() (ceremony.Input, error) {
	if f.WeakKeys == "" {
		return ceremony.Input{}, nil
	}
	data, err := os.ReadFile(f.WeakKeys)
	if err != nil {
		return ceremony.Input{}, fileError("read weak keys", err)
	}
	return ceremony.Input{Name: filepath.Base(f.WeakKeys), Data: data}, nil
}

// open returns the ceremony for the flags. If isNew, the directory need not exist.
func (f *ceremonyFlags) open(a *app, isNew bool, weak ceremony.Input) (*ceremony.Ceremony, func() error, error) {
	const op = "begin ceremony"
	if err := f.who(a); err != nil {
		return nil, nil, err
	}
	if !f.Yes && !f.Rehearse && a.terminal() == nil {
		return nil, nil, pki.Errorf(pki.KindInvalid, op, "there is no terminal to ask at before something is signed").
			WithHint("use --yes, or --rehearse")
	}
	keysDir := filepath.Join(f.Dir, "keys")
	if _, err := os.Stat(keysDir); err != nil {
		if !isNew {
			return nil, nil, pki.Errorf(pki.KindNotFound, op, "%s holds no keys", f.Dir).InField("--dir").
				WithHint("name the directory that signet ceremony root filled")
		}
		if err := os.MkdirAll(keysDir, 0o700); err != nil {
			return nil, nil, fileError(op, err)
		}
	}
	passphrase, err := a.passphrase(f.PassphraseFile, isNew && !f.Rehearse)
	if err != nil {
		return nil, nil, err
	}
	stores, err := installation.OpenKeys(settings.KeysConfig{Store: f.Store, PKCS11: settings.PKCS11Config{Module: f.Module, Token: f.Token, PINFile: f.PINFile}}, keysDir, passphrase, nil)
	if err != nil {
		return nil, nil, err
	}
	held, err := f.hold(a, stores, weak)
	if err != nil {
		return nil, nil, err
	}
	return held, func() error { return closeStores(stores) }, nil
}

func (f *ceremonyFlags) hold(a *app, stores keys.Schemes, weak ceremony.Input) (*ceremony.Ceremony, error) {
	profiles, err := profile.Open("")
	if err != nil {
		return nil, err
	}
	program, err := thisProgram()
	if err != nil {
		return nil, err
	}
	return ceremony.New(ceremony.Config{
		Dir: f.Dir, Keys: stores, Profiles: profiles, WeakKeys: weak, Program: program, Present: f.Present, Place: f.Place, Rehearse: f.Rehearse,
		Confirm: func(question string) (string, error) { return f.confirm(a, question) },
		Tell:    func(s ceremony.Step) { tell(a, s) },
	})
}

// closeStores closes the sessions of the stores.
func closeStores(stores keys.Schemes) (failed error) {
	for _, store := range stores.Stores {
		if closer, ok := store.(io.Closer); ok {
			if err := closer.Close(); err != nil && failed == nil {
				failed = err
			}
		}
	}
	return failed
}

// who asks for the people present, unless a flag names them.
func (f *ceremonyFlags) who(a *app) error {
	terminal := a.terminal()
	if len(f.Present) > 0 || terminal == nil {
		return nil
	}
	fmt.Fprintln(a.err, "Who is present? One a line, such as: Ada Lovelace, key holder. An empty line ends.")
	for {
		name, err := a.readLine(terminal)
		if name != "" {
			f.Present = append(f.Present, name)
		}
		if err == io.EOF || err == nil && name == "" {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// confirm asks a question that has to be answered with a whole word.
func (f *ceremonyFlags) confirm(a *app, question string) (string, error) {
	if f.Yes {
		return "yes, by --yes on the command line", nil
	}
	if answer, err := a.ask("\n" + question + "\nType yes to continue: "); err != nil || answer != "yes" {
		return "", pki.Errorf(pki.KindRefused, "confirm", "not confirmed").
			WithHint("nothing was signed; repeat the ceremony when everyone agrees")
	}
	return "yes, typed at the terminal", nil
}

// tell shows a step as in the record, without attachments.
func tell(a *app, s ceremony.Step) {
	if a.json {
		return
	}
	p := a.printer()
	p.line("%2d  %-9s %s", s.N, s.Name, s.Text)
	var pairs []string
	for _, f := range s.Facts {
		pairs = append(pairs, f.Name, f.Value)
	}
	p.fields(pairs...)
	for _, r := range s.Rules {
		if r.Outcome == "failed" || r.Outcome == "waived" {
			p.line("  %s: %s %s", r.Outcome, r.Rule, r.Details)
		}
	}
	for _, o := range s.Attached {
		p.fields(o.Name, fmt.Sprintf("%d octets, sha256 %s", len(o.DER), o.SHA256))
	}
}

// thisProgram identifies this program, also by its digest: a version is only a program's claim about itself.
func thisProgram() (ceremony.Program, error) {
	const op = "look at this program"
	v := readVersion()
	path, err := os.Executable()
	if err != nil {
		return ceremony.Program{}, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return ceremony.Program{}, fileError(op, err)
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return ceremony.Program{}, fileError(op, err)
	}
	commit := v.Commit
	if v.Modified {
		commit += " with changes that are in no commit"
	}
	return ceremony.Program{Version: v.Version, Commit: commit, Go: v.Go, Platform: v.Platform, SHA256: hex.EncodeToString(digest.Sum(nil))}, nil
}

// finish copies the product to the requested place and prints the result.
func (f *ceremonyFlags) finish(a *app, result *ceremony.Result, out, next string) error {
	done := ceremonyDone{Result: result}
	if out != "" && result.Product != "" {
		data, err := os.ReadFile(result.Product)
		if err != nil {
			return fileError("copy what was signed", err)
		}
		if err := durable.WriteNew(out, data, 0o644); err != nil {
			return err
		}
		done.Out = out
	}
	return a.show(done, func(p *printer) {
		p.line("")
		if result.Rehearsal {
			p.line("rehearsed; nothing was signed")
		} else {
			p.line("signed")
		}
		number := ""
		if result.Number > 0 {
			number = fmt.Sprint(result.Number)
		}
		p.fields("file", cmpOr(done.Out, result.Product), "sha256", result.Fingerprint, "serial", result.Serial, "number", number, "until", on(result.NotAfter),
			"record", result.Record, "paper", result.Paper, "digest", result.Digest)
		if result.Rehearsal {
			p.next("hold it without --rehearse")
			return
		}
		p.step("print " + quoted(result.Paper) + ", have everybody sign it; " +
			strings.ReplaceAll(strings.ReplaceAll(next, "FILE", quoted(filepath.Base(cmpOr(done.Out, result.Product)))), "DIR", quoted(f.Dir)))
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

type ceremonyRootCmd struct {
	CommonName   string   `required:"" placeholder:"TEXT" help:"Common name of the root, such as \"Example Root CA 1\"."`
	Organization string   `placeholder:"TEXT" help:"Organization in the subject."`
	Country      string   `placeholder:"CC" help:"Country in the subject: two letters."`
	BaseURL      string   `name:"base-url" required:"" placeholder:"URL" help:"Where the root's list and certificate will be served; it goes into what the root signs."`
	Label        string   `default:"root" help:"Name of the key: lower-case letters, digits, dots and hyphens."`
	KeyAlgorithm string   `default:"ecdsa-p384" placeholder:"ALG" help:"Its key."`
	Lifetime     duration `default:"20y" placeholder:"DURATION" help:"Lifetime."`
	PathLength   *int     `placeholder:"N" help:"Authorities allowed below each other under it (default: any number)."`
	constraintFlags
	weakKeysFlag
	Out string `short:"o" placeholder:"FILE" help:"Copy the certificate here as well."`
	ceremonyFlags
}

// constraintFlags limit the names below a CA.
type constraintFlags struct {
	PermitDNS    []string `name:"permit-dns" placeholder:"DOMAIN" help:"Only names at or below these domains, or only below: .domain."`
	ExcludeDNS   []string `name:"exclude-dns" placeholder:"DOMAIN" help:"No names at or below these domains, or below: .domain."`
	PermitIP     []string `name:"permit-ip" placeholder:"PREFIX" help:"Only addresses in these networks."`
	ExcludeIP    []string `name:"exclude-ip" placeholder:"PREFIX" help:"No addresses in these networks."`
	PermitEmail  []string `name:"permit-email" placeholder:"MAIL" help:"Only these mail addresses, or those of these hosts, or of every host below a .domain."`
	ExcludeEmail []string `name:"exclude-email" placeholder:"MAIL" help:"None of these."`
	PermitURI    []string `name:"permit-uri" placeholder:"HOST" help:"Only URIs of these hosts, or of every host below a .domain."`
	ExcludeURI   []string `name:"exclude-uri" placeholder:"HOST" help:"None of these."`
}

func (f constraintFlags) permitted() profile.SubtreesConfig {
	return profile.SubtreesConfig{DNS: f.PermitDNS, IP: f.PermitIP, Email: f.PermitEmail, URI: f.PermitURI}
}

func (f constraintFlags) excluded() profile.SubtreesConfig {
	return profile.SubtreesConfig{DNS: f.ExcludeDNS, IP: f.ExcludeIP, Email: f.ExcludeEmail, URI: f.ExcludeURI}
}

func (ceremonyRootCmd) Help() string {
	return `For a machine without database and network. Every step is shown, and written down before the next: as JSON lines for
programs, each carrying the digest of the one before, and as pages for signatures. Hold it with --rehearse first.

Examples:
  signet ceremony root --rehearse --dir root-1 --common-name "Example Root CA 1" --base-url http://pki.example --present "Ada Lovelace, key holder"
  signet ceremony root --dir root-1 --common-name "Example Root CA 1" --base-url http://pki.example --present "Ada Lovelace, key holder" --present "Charles Babbage, witness"
  signet ceremony root --store pkcs11 --module /usr/lib/softhsm/libsofthsm2.so --token root --pin-file pin --common-name "Example Root CA 1" --base-url http://pki.example`
}

// Run makes a root.
func (c *ceremonyRootCmd) Run(a *app) (err error) {
	algorithm, err := keys.ParseAlgorithm(c.KeyAlgorithm)
	if err != nil {
		return (&pki.Error{Kind: pki.KindInvalid, Op: "make root", Err: err}).InField("--key-algorithm")
	}
	n := ca.NewIssuer{Label: c.Label, Subject: ca.Subject{CommonName: c.CommonName}, Algorithm: algorithm, BaseURL: c.BaseURL, Lifetime: time.Duration(c.Lifetime), PathLength: c.PathLength,
		Permitted: c.permitted(), Excluded: c.excluded()}
	if c.Organization != "" {
		n.Subject.Organization = []string{c.Organization}
	}
	if c.Country != "" {
		n.Subject.Country = []string{c.Country}
	}
	weak, err := c.weakKeysFlag.read()
	if err != nil {
		return err
	}
	held, done, err := c.open(a, true, weak)
	if err != nil {
		return err
	}
	defer closeInto(&err, done)
	result, err := held.Root(a.ctx, n)
	if err != nil {
		return err
	}
	return c.finish(a, result, c.Out, "then signet ceremony crl --dir DIR --present WHO --out root.crl; where it is to be served: signet init --offline-root FILE, or signet issuer adopt LABEL FILE")
}

// closeInto closes what a command opened and adds the error, if any, to *err.
func closeInto(err *error, done func() error) {
	if closed := done(); *err == nil {
		*err = closed
	}
}

type ceremonySignCmd struct {
	CSR        string   `name:"csr" required:"" placeholder:"FILE" help:"Its request, as signet issuer create --offline wrote it."`
	Lifetime   duration `placeholder:"DURATION" help:"Lifetime (default: 10y)."`
	PathLength *int     `placeholder:"N" help:"Authorities allowed below it (default: as many as the request asks for, else 0)."`
	constraintFlags
	weakKeysFlag
	Out string `short:"o" placeholder:"FILE" help:"Copy the certificate, followed by the root, here as well."`
	ceremonyFlags
}

func (ceremonySignCmd) Help() string {
	return `Name and key come from the request, and so do the path length and the name constraints that it asks for. The flags can
narrow these but not widen them; the record shows both. Everything else comes from the flags. Compare the request's SHA-256
with the one that its makers read to you.

Examples:
  signet ceremony sign --dir root-1 --csr issuing.csr --present "Ada Lovelace, key holder" --out issuing.pem
  signet ceremony sign --dir root-1 --csr plant.csr --permit-dns plant.example --permit-ip 10.1.0.0/16 --present "Ada Lovelace, key holder"
  signet ceremony sign --dir root-1 --csr plant.csr --permit-dns .plant.example --exclude-dns hr.plant.example --present "Ada Lovelace, key holder"`
}

// Run signs a request.
func (c *ceremonySignCmd) Run(a *app) (err error) {
	input, err := a.ceremonyInput(c.CSR)
	if err != nil {
		return err
	}
	n := ca.NewIssuer{Lifetime: time.Duration(c.Lifetime), PathLength: c.PathLength, Permitted: c.permitted(), Excluded: c.excluded()}
	weak, err := c.weakKeysFlag.read()
	if err != nil {
		return err
	}
	held, done, err := c.open(a, false, weak)
	if err != nil {
		return err
	}
	defer closeInto(&err, done)
	result, err := held.Sign(a.ctx, input, n)
	if err != nil {
		return err
	}
	return c.finish(a, result, c.Out, "carry the file to the server: signet issuer import FILE, or signet init --certificate FILE")
}

// ceremonyInput reads a file that was brought to the ceremony.
func (a *app) ceremonyInput(path string) (ceremony.Input, error) {
	data, err := a.readInput(path)
	if err != nil {
		return ceremony.Input{}, err
	}
	return ceremony.Input{Name: filepath.Base(path), Data: data}, nil
}

type ceremonyCrossCmd struct {
	Certificate string   `arg:"" help:"Certificate of the other root, signed by itself."`
	Lifetime    duration `placeholder:"DURATION" help:"Lifetime of the cross-certificate (default: 10y, or as long as this root)."`
	weakKeysFlag
	Out string `short:"o" placeholder:"FILE" help:"Copy the certificate, followed by this root, here as well."`
	ceremonyFlags
}

func (ceremonyCrossCmd) Help() string {
	return `Clients that trust this root then also trust everything below the other. Path length and name constraints are those of the
other's own certificate.

Examples:
  signet ceremony cross-sign --dir root-1 root-2/root.pem --present "Ada Lovelace, key holder" --out root-2-by-root-1.pem`
}

// Run signs another root.
func (c *ceremonyCrossCmd) Run(a *app) (err error) {
	input, err := a.ceremonyInput(c.Certificate)
	if err != nil {
		return err
	}
	weak, err := c.weakKeysFlag.read()
	if err != nil {
		return err
	}
	held, done, err := c.open(a, false, weak)
	if err != nil {
		return err
	}
	defer closeInto(&err, done)
	result, err := held.CrossSign(a.ctx, input, time.Duration(c.Lifetime))
	if err != nil {
		return err
	}
	return c.finish(a, result, c.Out, "carry the file to the server: signet issuer import FILE")
}

type ceremonyCRLCmd struct {
	Revoke     []string `sep:"none" placeholder:"CERTIFICATE=REASON" help:"Revoke this one: a serial that a ceremony here signed, or a certificate file, and the reason (default: unspecified)."`
	NextUpdate duration `placeholder:"DURATION" help:"When the next list is due (default: 365d)."`
	Number     uint64   `placeholder:"N" help:"Number of the list, at least (default: one more than the last)."`
	Out        string   `short:"o" placeholder:"FILE" help:"Copy the list here as well."`
	ceremonyFlags
}

// Help is shown by "signet ceremony crl --help".
func (ceremonyCRLCmd) Help() string {
	return `Everything that was ever revoked stays on it. A certificate that was about to be signed when a ceremony broke off is revoked by itself.
Numbers grow and are never used twice, also when a ceremony breaks off. Reasons: keyCompromise, cACompromise, affiliationChanged,
superseded, cessationOfOperation, privilegeWithdrawn, unspecified.

Examples:
  signet ceremony crl --dir root-1 --present "Ada Lovelace, key holder" --out root.crl
  signet ceremony crl --dir root-1 --revoke issuing.pem=cessationOfOperation --next-update 180d --present "Ada Lovelace, key holder"`
}

// Run signs a list.
func (c *ceremonyCRLCmd) Run(a *app) (err error) {
	request := ceremony.ListRequest{Validity: time.Duration(c.NextUpdate), AtLeast: c.Number}
	for _, text := range c.Revoke {
		revocation, err := a.ceremonyRevocation(text)
		if err != nil {
			return err
		}
		request.Revoke = append(request.Revoke, revocation)
	}
	held, done, err := c.open(a, false, ceremony.Input{})
	if err != nil {
		return err
	}
	defer closeInto(&err, done)
	result, err := held.List(a.ctx, request)
	if err != nil {
		return err
	}
	return c.finish(a, result, c.Out, "carry the list to the server: signet crl import --issuer NAME FILE")
}

func (a *app) ceremonyRevocation(text string) (ceremony.Revocation, error) {
	const op = "read --revoke"
	what, word, _ := strings.Cut(text, "=")
	v := ceremony.Revocation{}
	var err error
	if word != "" {
		if v.Reason, err = pki.ParseReason(word); err != nil {
			return v, (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("--revoke")
		}
	}
	if _, err := os.Stat(what); err == nil {
		v.Certificate, err = a.ceremonyInput(what)
		return v, err
	}
	if v.Serial, err = pki.ParseSerial(what); err != nil {
		if isPath(what) {
			return v, pki.Errorf(pki.KindNotFound, op, "there is no file %s", what).InField("--revoke")
		}
		return v, pki.Errorf(pki.KindInvalid, op, "%q is neither a file here nor a serial number", what).InField("--revoke").
			WithHint("write FILE=REASON or SERIAL=REASON")
	}
	return v, nil
}

type ceremonyVerifyCmd struct {
	Record string `arg:"" help:"A record, NAME.jsonl; pages and product are looked for beside it."`
}

// Help is shown by "signet ceremony verify --help".
func (ceremonyVerifyCmd) Help() string {
	return `Recomputes the chain of a record and what it says was signed, and compares the pages and the certificate or list beside it
with the record. Compare the digest with the one on the signed paper. The exit status is 10 if anything is wrong.

Examples:
  signet ceremony verify root-1/records/2026-11-21-root-1.jsonl`
}

// Run verifies one record.
func (c *ceremonyVerifyCmd) Run(a *app) error {
	v, err := ceremony.Verify(c.Record)
	if err != nil {
		return err
	}
	if err := a.show(v, func(p *printer) {
		if v.Good {
			p.line("the record %s is whole", v.Record)
		} else {
			p.line("the record %s must not be relied on", v.Record)
		}
		rehearsal := ""
		if v.Rehearsal {
			rehearsal = "yes: nothing was signed"
		}
		p.fields("kind", v.Kind, "rehearsal", rehearsal, "present", strings.Join(v.Present, "; "), "steps", fmt.Sprint(v.Steps), "digest", v.Digest)
		for _, f := range v.Findings {
			mark := "ok"
			if !f.Good {
				mark = "WRONG"
			}
			p.line("  %-5s %-10s %s", mark, f.What, f.Text)
		}
		p.next("compare the digest with the one on the signed paper")
	}); err != nil {
		return err
	}
	if !v.Good {
		return answerNo("the record must not be relied on")
	}
	return nil
}
