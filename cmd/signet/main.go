// Command signet is a certificate authority and revocation service, and the client of one.
//
// One file holds one group of commands: their flags, their calls and what they print. Every decision is made in the
// packages they call.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"signet.example/signet/pki"
)

// commands is the table of contents of the tool. A command is a struct with its flags, a Run(*app) error and, for its
// help page, a Help() string with examples.
type commands struct {
	Config string `env:"SIGNET_CONFIG" placeholder:"FILE" help:"Configuration file (default: signet.yaml here)."`
	Output string `default:"text" enum:"text,json" env:"SIGNET_OUTPUT" placeholder:"FORMAT" help:"text for people, json (or --json) for programs."`

	CSR      csrCmd      `cmd:"" group:"Certificates" help:"Make a private key and a certificate request here."`
	Issue    issueCmd    `cmd:"" group:"Certificates" help:"Get a certificate; its key is made here and stays here."`
	Renew    renewCmd    `cmd:"" group:"Certificates" help:"Renew a certificate in place; the old one authenticates the request."`
	Agent    agentCmd    `cmd:"" group:"Certificates" help:"Keep certificates in files renewed."`
	Requests requestsCmd `cmd:"" group:"Certificates" help:"Approve, deny and collect requests that need an approval."`
	List     listCmd     `cmd:"" group:"Certificates" help:"List certificates."`
	Show     showCmd     `cmd:"" group:"Certificates" help:"Show one certificate."`
	Export   exportCmd   `cmd:"" group:"Certificates" help:"Write a certificate with its chain and key as PEM, DER, PKCS #7 or PKCS #12."`

	Status  statusCmd  `cmd:"" group:"Revocation" help:"Ask whether a certificate is authentic and in force."`
	Revoke  revokeCmd  `cmd:"" group:"Revocation" help:"Revoke a certificate for good."`
	Hold    holdCmd    `cmd:"" group:"Revocation" help:"Suspend a certificate."`
	Release releaseCmd `cmd:"" group:"Revocation" help:"End the suspension of a certificate."`
	Job     jobCmd     `cmd:"" group:"Revocation" help:"Revoke many certificates at once."`
	Key     keyCmd     `cmd:"" group:"Revocation" help:"Block keys that are compromised, and keep the key store."`
	CRL     crlCmd     `cmd:"" group:"Revocation" help:"Get, read and check revocation lists."`
	OCSP    ocspCmd    `cmd:"" group:"Revocation" help:"Ask OCSP responders."`

	Verify    verifyCmd    `cmd:"" group:"Checking and testing" help:"Judge certificates, CRLs and OCSP responses off-line, by the given files alone."`
	Lint      lintCmd      `cmd:"" group:"Checking and testing" help:"Check certificates, requests, CRLs and OCSP responses against their standards."`
	Handshake handshakeCmd `cmd:"" group:"Checking and testing" help:"Make TLS connections step by step: connect, serve, survey, compromise."`
	Trust     trustCmd     `cmd:"" group:"Checking and testing" help:"Make this machine trust a root, or stop trusting it."`

	Init     initCmd     `cmd:"" group:"Authorities" help:"Make a new authority: root, issuing authority, database, credential, configuration."`
	Issuer   issuerCmd   `cmd:"" group:"Authorities" help:"Manage the certification authorities of the server."`
	Ceremony ceremonyCmd `cmd:"" group:"Authorities" help:"Make and use the key of an off-line root in front of witnesses, and record every step."`
	Profile  profileCmd  `cmd:"" group:"Authorities" help:"Read and check profiles."`

	Serve      serveCmd      `cmd:"" group:"Running a server" help:"Run the server."`
	Credential credentialCmd `cmd:"" group:"Running a server" help:"Manage who may call the API."`
	Audit      auditCmd      `cmd:"" group:"Running a server" help:"Read and verify the audit log."`
	Doctor     doctorCmd     `cmd:"" group:"Running a server" help:"Find out what is wrong with this installation."`
	Backup     backupCmd     `cmd:"" group:"Running a server" help:"Copy database and keys, as one unit."`
	Restore    restoreCmd    `cmd:"" group:"Running a server" help:"Restore a backup, so that no number is used twice."`
	Migrate    migrateCmd    `cmd:"" group:"Running a server" help:"Migrate the schema of the database to this version."`

	Demo       demoCmd       `cmd:"" group:"This program" help:"Play the whole life of a certificate, on this machine."`
	Version    versionCmd    `cmd:"" group:"This program" help:"Show the version."`
	Completion completionCmd `cmd:"" group:"This program" help:"Print a completion script for your shell."`
	Man        manCmd        `cmd:"" group:"This program" help:"Print the manual page."`
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run parses and runs one command line and returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// The first signal asks the command to stop; a second one ends the process as usual.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	var table commands
	a := &app{ctx: ctx, in: stdin, out: stdout, err: stderr, getenv: os.Getenv}
	helped := exitOK
	if len(args) == 0 { // a script that lost its arguments did not get what it wanted
		helped = exitInvalid
	}
	parser := kong.Must(&table,
		kong.Name("signet"),
		kong.Description("A certificate authority whose certificates can be checked and revoked, end to end.\n\n"+
			"To begin: signet demo shows all of it; signet init --local, signet serve and signet issue app.example make an authority here."),
		kong.ValueFormatter(func(v *kong.Value) string { return kong.DefaultHelpValueFormatter(withDefault(v)) }),
		kong.Exit(func(int) { os.Exit(helped) }),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	args = habits(args)
	parsed, err := parser.Parse(args)
	if a.json, a.config = table.Output == "json", table.Config; a.config != a.getenv("SIGNET_CONFIG") {
		a.given = a.config
	}
	if err != nil {
		// The parser may not have come so far.
		a.json = a.json || a.getenv("SIGNET_OUTPUT") == "json" || strings.Contains(strings.Join(args, "="), "--output=json")
		return a.fail(usageError(args, err))
	}
	a.command = parsed.Selected().Path()
	if err := parsed.Run(a, parser); err != nil {
		return a.fail(err)
	}
	return exitOK
}

// withDefault adds the default of a flag to its help, which the parser does only if the value has no name.
func withDefault(v *kong.Value) *kong.Value {
	if !v.HasDefault || v.Default == "" || v.Tag.PlaceHolder == "" || strings.Contains(v.Help, "(default") {
		return v
	}
	named := *v
	named.Help = strings.TrimSuffix(v.Help, ".") + " (default: " + v.Default + ")."
	return &named
}

// habits translates what people type out of habit: the program name alone and "help" ask for help, --json is --output
// json.
func habits(args []string) []string {
	if i := slices.Index(args, "--json"); i >= 0 {
		args = slices.Concat(args[:i], []string{"--output=json"}, args[i+1:])
	}
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	case args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	}
	return args
}

// usageError turns the parser's error into one that names the next command.
func usageError(args []string, err error) error {
	e := pki.Errorf(pki.KindInvalid, "command line", "%w", err)
	p, ok := errors.AsType[*kong.ParseError](err)
	if !ok || p.Context == nil {
		return e.WithHint("see `signet --help`")
	}
	if p.Context.Command() != "" {
		return e.WithHint("see `signet %s --help`", p.Context.Selected().Path())
	}
	if strings.HasPrefix(args[0], "-") {
		return e.WithHint("the command comes first, and its flags after it; see `signet --help`")
	}
	var below []string
	for _, leaf := range p.Context.Model.Leaves(true) {
		if leaf.Name == args[0] {
			below = append(below, "`signet "+leaf.Path()+"`")
		}
	}
	if len(below) > 0 {
		return e.WithHint("did you mean %s?", strings.Join(below, " or "))
	}
	return e.WithHint("see `signet --help`")
}
