// Command signet is a certificate authority and revocation service, and the client of one.
//
// One file holds one command: its flags, its call and what it prints. Everything that decides something lives in the
// packages it calls.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"signet.example/signet/pki"
)

// commands is the table of contents of the tool. A command is a struct with its flags, a Run(*app) error and, for its
// help page, a Help() string with examples.
type commands struct {
	Config string `default:"signet.yaml" env:"SIGNET_CONFIG" placeholder:"FILE" help:"Configuration file (default: signet.yaml here)."`
	Output string `default:"text" enum:"text,json" env:"SIGNET_OUTPUT" placeholder:"FORMAT" help:"text for people, json for programs."`

	Init       initCmd       `cmd:"" help:"Make a new authority: root, issuing authority, database, credential, configuration."`
	CSR        csrCmd        `cmd:"" help:"Make a private key and a certificate request here."`
	Issue      issueCmd      `cmd:"" help:"Get a certificate; its key is made here and stays here."`
	Renew      renewCmd      `cmd:"" help:"Renew a certificate in its files, proved by itself."`
	Agent      agentCmd      `cmd:"" help:"Keep certificates in files renewed."`
	Requests   requestsCmd   `cmd:"" help:"Decide, and collect, requests that need an approval."`
	List       listCmd       `cmd:"" help:"List certificates."`
	Trust      trustCmd      `cmd:"" help:"Make this machine trust a root, or no longer."`
	Show       showCmd       `cmd:"" help:"Show one certificate."`
	Export     exportCmd     `cmd:"" help:"Write a certificate with its chain and key as PEM, DER, PKCS #7 or PKCS #12."`
	Status     statusCmd     `cmd:"" help:"Ask whether a certificate is authentic and in force."`
	Revoke     revokeCmd     `cmd:"" help:"Revoke a certificate for good."`
	Hold       holdCmd       `cmd:"" help:"Suspend a certificate."`
	Release    releaseCmd    `cmd:"" help:"End the suspension of a certificate."`
	CRL        crlCmd        `cmd:"" help:"Get, read and check revocation lists."`
	OCSP       ocspCmd       `cmd:"" help:"Ask OCSP responders."`
	Verify     verifyCmd     `cmd:"" help:"Judge certificates off-line, by what is given alone."`
	Lint       lintCmd       `cmd:"" help:"Hold certificates, requests, CRLs and OCSP responses against the rules of their documents."`
	Handshake  handshakeCmd  `cmd:"" help:"Make TLS connections, step by step: connect, serve, compromise."`
	Key        keyCmd        `cmd:"" help:"Block keys that are known to others."`
	Job        jobCmd        `cmd:"" help:"Revoke many certificates at once."`
	Issuer     issuerCmd     `cmd:"" help:"Look at the certification authorities of the server, and make more."`
	Ceremony   ceremonyCmd   `cmd:"" help:"Make and use the key of an off-line root in front of witnesses, and record every step."`
	Profile    profileCmd    `cmd:"" help:"Read and check profiles."`
	Credential credentialCmd `cmd:"" help:"Decide who may call."`
	Audit      auditCmd      `cmd:"" help:"Read and verify the audit log."`
	Serve      serveCmd      `cmd:"" help:"Run the server."`
	Demo       demoCmd       `cmd:"" help:"Play the whole life of a certificate, on this machine."`
	Migrate    migrateCmd    `cmd:"" help:"Bring the schema of the database to this version."`
	Backup     backupCmd     `cmd:"" help:"Copy database and keys, as one unit."`
	Restore    restoreCmd    `cmd:"" help:"Bring back a backup, so that nothing is used twice."`
	Doctor     doctorCmd     `cmd:"" help:"Look for what is wrong with this installation."`
	Completion completionCmd `cmd:"" help:"Print a completion script for your shell."`
	Man        manCmd        `cmd:"" help:"Print the manual page."`
	Version    versionCmd    `cmd:"" help:"Say which version this is."`
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run parses and runs one command line and returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// The first signal asks the command to end well; a second one ends the process as usual.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	var table commands
	a := &app{ctx: ctx, in: stdin, out: stdout, err: stderr, getenv: os.Getenv}
	parser := kong.Must(&table,
		kong.Name("signet"),
		kong.Description("A certificate authority whose certificates can be checked and revoked, end to end."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	parsed, err := parser.Parse(args)
	a.json, a.config = table.Output == "json", table.Config
	if err != nil {
		return a.fail(usageError(err))
	}
	if err := parsed.Run(a, parser); err != nil {
		return a.fail(err)
	}
	return exitOK
}

// usageError turns what the parser says into an error of ours that names the next command.
func usageError(err error) error {
	e := pki.Errorf(pki.KindInvalid, "command line", "%w", err)
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil && p.Context.Command() != "" {
		return e.WithHint("see `signet %s --help`", p.Context.Selected().Path())
	}
	return e.WithHint("see `signet --help`")
}
