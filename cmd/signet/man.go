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

// Run prints the manual page of every command, made from the same texts as the help.
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
	m.macro(".SH EXIT STATUS")
	m.text("0 done, or yes; 1 something broke; 2 wrong command line or input; 3 refused; 4 not found; 5 exists already; 6 no credential that allows it; 7 no answer, try again; 10 the answer is no.")
	_, err := io.WriteString(a.out, m.b.String())
	return err
}

// manual builds a page in the man macros.
type manual struct{ b strings.Builder }

func (m *manual) macro(line string) { m.b.WriteString(line + "\n") }

// text writes a paragraph whose escapes are done already.
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

// detail writes the help of a command; its examples are indented there and stay as they are.
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
