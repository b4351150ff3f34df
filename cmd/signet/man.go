package main

import (
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct{}

func (manCmd) Help() string {
	return `Examples:
  signet man | man -l -
  signet man > /usr/local/share/man/man1/signet.1`
}

// Run prints the manual page of every command, made from the texts of the help.
func (manCmd) Run(a *app, parser *kong.Kong) error {
	m := &manual{}
	m.macro(`.TH SIGNET 1 "" "signet ` + readVersion().Version + `" "User Commands"`)
	m.macro(".SH NAME")
	summary, begin, _ := strings.Cut(parser.Model.Help, "\n\n")
	m.text("signet \\- " + escapeRoff(summary))
	m.macro(".SH DESCRIPTION")
	m.text(escapeRoff(begin))
	m.macro(".SH SYNOPSIS")
	m.text(`\fBsignet\fR \fICOMMAND\fR [\fIFLAGS\fR]`)
	m.macro(".SH FLAGS OF EVERY COMMAND")
	m.flags(parser.Model.Flags)
	m.macro(".SH COMMANDS")
	m.commands(parser.Model.Node)
	m.macro(".SH FILES")
	m.terms("signet.yaml", "The configuration, found by --config, SIGNET_CONFIG or in the working directory. Its directory is the state directory, in which the others lie.",
		"root.pem", "The roots that clients trust.",
		"keys/NAME.key", "The private key of an authority, encrypted with the passphrase.",
		"signet.db", "The database, if it is SQLite.",
		"admin.token", "The credential that signet init made.",
		"profiles/*.yaml", "Profiles of your own.")
	m.macro(".SH ENVIRONMENT")
	m.terms("SIGNET_CONFIG", "The configuration, as --config.",
		"SIGNET_OUTPUT", "text or json, as --output.",
		"SIGNET_PASSPHRASE_FILE, SIGNET_PASSPHRASE", "The file with the passphrase of the keys, or the passphrase.",
		"SIGNET_API_LISTEN and the like", "Any field of the configuration: SIGNET_ and its path in capitals. Lists are separated by commas.",
		"CREDENTIALS_DIRECTORY", "Set by systemd: its file signet-passphrase holds the passphrase.",
		"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN", "Credentials of the bucket that CRLs are copied to.",
		"PGPASSFILE", "The file with the password of PostgreSQL.",
		"SIGNET_CERTIFICATE, SIGNET_KEY", "Set for the hooks of signet agent: the files that it replaced.")
	m.macro(".SH EXIT STATUS")
	m.text("0 done, or yes; 1 something broke; 2 wrong command line or input; 3 refused; 4 not found; 5 exists already; 6 no credential that allows it; 7 no answer, try again; 10 the answer is no.")
	_, err := io.WriteString(a.out, m.b.String())
	return err
}

// manual builds a page with the man macros.
type manual struct{ b strings.Builder }

func (m *manual) macro(line string) { m.b.WriteString(line + "\n") }

// text writes a paragraph that is already escaped.
func (m *manual) text(text string) { m.b.WriteString(text + "\n") }

func (m *manual) commands(node *kong.Node) {
	for _, child := range node.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		if child.Leaf() {
			m.macro(".SS " + escapeRoff(child.Summary()))
			m.text(escapeRoff(child.Help))
			m.detail(child.Detail)
			m.flags(child.Flags)
		}
		m.commands(child)
	}
}

// detail writes the help of a command. Its examples are indented and stay as they are.
func (m *manual) detail(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			m.macro(".PP")
		case strings.HasPrefix(line, "  "):
			m.macro(".br")
			m.text(`\fB` + escapeRoff(strings.TrimSpace(line)) + `\fR`)
		default:
			m.text(escapeRoff(line))
		}
	}
}

// terms writes pairs of a term and its description.
func (m *manual) terms(pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		m.macro(".TP")
		m.text(`\fB` + escapeRoff(pairs[i]) + `\fR`)
		m.text(escapeRoff(pairs[i+1]))
	}
}

func (m *manual) flags(flags []*kong.Flag) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		m.macro(".TP")
		name := `\fB\-\-` + escapeRoff(f.Name) + `\fR`
		if !f.IsBool() {
			name += ` \fI` + escapeRoff(f.FormatPlaceHolder()) + `\fR`
		}
		m.text(name)
		m.text(escapeRoff(withDefault(f.Value).Help))
	}
}

// escapeRoff keeps text from being read as a request or an escape.
func escapeRoff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
