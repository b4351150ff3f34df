package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"unicode/utf8"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// The exit statuses, documented in docs/OPERATIONS.md.
const (
	exitOK          = 0
	exitFailed      = 1  // something failed
	exitInvalid     = 2  // the command line or an input is wrong
	exitRefused     = 3  // policy or the present state does not allow it
	exitNotFound    = 4  // what was named does not exist
	exitConflict    = 5  // it already exists, or was changed in the meantime
	exitCredential  = 6  // no credential, a wrong one, or one that does not allow this
	exitUnavailable = 7  // something did not answer or is full; try again
	exitNegative    = 10 // the command worked and the answer is no: revoked, expired, not authentic
)

// app is passed to every command's Run: the streams, the output format and the configuration's path.
type app struct {
	ctx     context.Context
	in      io.Reader
	out     io.Writer
	err     io.Writer
	getenv  func(string) string
	config  string // path of signet.yaml, as it was given; empty: the one in the working directory
	given   string // the same if it was given by --config, not by the environment
	server  string // the serverFlags of this command line, quoted for a shell; connect sets it
	json    bool
	command string // as typed, without flags: "issuer create"; empty: the command line did not parse
}

// show prints a result: as a JSON object if that was requested, otherwise as text by the function. The fields of value
// are documented, so it should be a struct with json tags.
func (a *app) show(value any, text func(w *printer)) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	p := a.printer()
	text(p)
	return p.err
}

// note prints something in addition to the result on stderr, for people only: nothing if JSON was requested.
func (a *app) note(format string, args ...any) {
	if !a.json {
		fmt.Fprintln(a.err, visible(fmt.Sprintf(format, args...)))
	}
}

// toTerminal reports whether the result goes to a terminal, where binary data is of no use.
func (a *app) toTerminal() bool { return terminalOf(a.out) != nil }

// eachPage passes on pages, beginning at a token, until there were limit items (0: all). It returns the token of what
// follows.
func eachPage[T any](limit int, token string, read func(client.Page) (*client.List[T], error), take func([]T) error) (next string, err error) {
	page, taken := client.Page{Size: 1000, Token: token}, 0
	for {
		if limit > 0 {
			page.Size = min(1000, limit-taken)
		}
		list, err := read(page)
		if err != nil {
			return "", err
		}
		if err := take(list.Items); err != nil {
			return "", err
		}
		taken += len(list.Items)
		if page.Token = list.Next; page.Token == "" || limit > 0 && taken >= limit {
			return page.Token, nil
		}
	}
}

// upTo collects the items of eachPage.
func upTo[T any](limit int, token string, read func(client.Page) (*client.List[T], error)) (all []T, next string, err error) {
	all = []T{}
	next, err = eachPage(limit, token, read, func(items []T) error {
		all = append(all, items...)
		return nil
	})
	return all, next, err
}

// whole reads a list to its end.
func whole[T any](items iter.Seq2[T, error]) ([]T, error) {
	all := []T{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

// loadConfig reads signet.yaml with the environment's overrides.
func (a *app) loadConfig() (*settings.Config, error) {
	if a.config == "" {
		return settings.Found("signet.yaml", a.getenv)
	}
	return settings.Load(a.config, a.getenv)
}

// outliveReaders makes a write to standard output or error whose reader is gone return an error instead of ending this
// process, for commands that have something to release. Programs that it starts still end; they would not if the signal
// were ignored.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// ending is an error with an exit status of its own, whatever its kind.
type ending struct {
	error
	status int
	told   bool // it has already been printed
}

func (e ending) Unwrap() error { return e.error }

// answerNo is the error of a command that worked and whose answer, already printed, is no.
func answerNo(why string) error { return ending{errors.New(why), exitNegative, true} }

// refusal is the error of a command that judges others, such as a handshake or a verification, and whose verdict,
// already printed, is no.
func refusal(why string) error { return ending{errors.New(why), exitFailed, true} }

// unparsed is an error about foreign input, in a command that judges.
func unparsed(err error) error { return ending{err, exitFailed, false} }

// ownFault is any other error in a command that judges.
func ownFault(err error) error { return ending{err, exitInvalid, false} }

// fail prints an error and its hint and returns the exit status.
func (a *app) fail(err error) int {
	if end, ok := errors.AsType[ending](err); ok {
		if !end.told {
			a.fail(end.error)
		}
		return end.status
	}
	if a.interrupted(err) {
		err = pki.Errorf(pki.KindUnavailable, "interrupted", "%w", err).WithHint("%s", hintOf(err))
	}
	kind, field, hint := pki.KindOf(err), "", hintOf(err)
	if e, ok := errors.AsType[*pki.Error](err); ok {
		field = e.Field
	}
	if kind == pki.KindInvalid && hint == "" && a.command != "" {
		hint = "see `signet " + a.command + " --help`"
	}
	if a.json {
		type failure struct {
			Kind    string `json:"kind"`
			Message string `json:"message"`
			Field   string `json:"field,omitempty"`
			Hint    string `json:"hint,omitempty"`
		}
		enc := json.NewEncoder(a.err)
		enc.SetEscapeHTML(false)
		// Nothing can be done if stderr fails.
		_ = enc.Encode(map[string]failure{"error": {kind.String(), err.Error(), field, hint}})
		return exitStatus(kind)
	}
	fmt.Fprintf(a.err, "signet: %s\n", visible(err.Error()))
	if hint != "" {
		fmt.Fprintf(a.err, "  next: %s\n", visible(hint))
	}
	return exitStatus(kind)
}

// interrupted reports whether an error comes from the end of the context. Errors of gRPC and of databases do not wrap its error.
func (a *app) interrupted(err error) bool {
	return err != nil && a.ctx.Err() != nil && (errors.Is(err, context.Canceled) || pki.KindOf(err) == pki.KindUnavailable)
}

// hintOf returns what to do about an error; empty if that is unknown.
func hintOf(err error) string {
	if e, ok := errors.AsType[*pki.Error](err); ok {
		return e.Hint
	}
	return ""
}

func exitStatus(kind pki.Kind) int {
	switch kind {
	case pki.KindInvalid:
		return exitInvalid
	case pki.KindRefused, pki.KindFailedPrecondition:
		return exitRefused
	case pki.KindNotFound:
		return exitNotFound
	case pki.KindConflict:
		return exitConflict
	case pki.KindUnauthenticated, pki.KindDenied:
		return exitCredential
	case pki.KindUnavailable, pki.KindExhausted:
		return exitUnavailable
	}
	return exitFailed
}

// visible escapes what a terminal would obey: names, comments and errors may be foreign. Lines and tabs stay.
func visible(text string) string { return escape(text, "\n\t") }

// cell is visible for one value of a table; it escapes line breaks and tabs too.
func cell(text string) string { return escape(text, "") }

func escape(text, kept string) string {
	obeyed := func(c rune) bool { return pki.Unprintable(c) && !strings.ContainsRune(kept, c) }
	if utf8.ValidString(text) && !strings.ContainsFunc(text, obeyed) {
		return text
	}
	var b strings.Builder
	for _, c := range text { // invalid UTF-8 becomes U+FFFD
		if !obeyed(c) {
			b.WriteRune(c)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(c)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// printer writes text for people. It keeps the first error, so that callers need not check each line.
type printer struct {
	w      io.Writer
	config string // the value of --config, which suggested commands need too; empty: not given
	server string // the same for serverFlags, quoted for a shell
	err    error
}

func (a *app) printer() *printer { return &printer{w: a.out, config: a.given, server: a.server} }

// line writes one line. Without arguments, the format may contain any text.
func (p *printer) line(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if p.err == nil {
		_, p.err = io.WriteString(p.w, visible(format)+"\n")
	}
}

// fields writes aligned and indented "name  value" pairs. It omits pairs with an empty value.
func (p *printer) fields(pairs ...string) {
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(t, "  %s\t%s\n", pairs[i], cell(pairs[i+1]))
		}
	}
	p.flush(t)
}

// table writes a header and rows in aligned columns.
func (p *printer) table(header []string, rows [][]string) {
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = cell(text)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	p.flush(t)
}

// counted returns a number with its noun: "1 certificate", "12 certificates".
func counted[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// next prints the next command to type. String arguments are quoted for the shell where necessary.
func (p *printer) next(format string, args ...any) {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = quoted(text)
		}
	}
	p.step(fmt.Sprintf(format, args...))
}

var aCommand = regexp.MustCompile(`\bsignet [a-z]+`)

// aCall matches the commands that have serverFlags.
var aCall = regexp.MustCompile(`\bsignet (issue|list|show|export|status|revoke|hold|release|doctor|(requests|job|issuer|credential|audit) [a-z-]+` +
	`|key (block|list)|crl (fetch|import)|profile (reload|instances))\b`)

// step is next for a complete text. Its commands get the --config of this one, but a ceremony has none, and its
// serverFlags: with another credential they would act as somebody else.
func (p *printer) step(text string) {
	if p.server != "" {
		text = aCall.ReplaceAllStringFunc(text, func(command string) string { return command + " " + p.server })
	}
	if p.config != "" && !strings.Contains(text, "--config") {
		text = aCommand.ReplaceAllStringFunc(text, func(command string) string {
			if command == "signet ceremony" {
				return command
			}
			return "signet --config " + quoted(p.config) + strings.TrimPrefix(command, "signet")
		})
	}
	p.line("")
	p.line("next: " + text)
}

// quoted quotes a text so that a shell reads it as one word.
func quoted(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+.,:/=@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// more says how to see the next page; nothing if token is empty.
func (p *printer) more(token string) {
	if token != "" {
		p.next("there are more: --limit 0 for all, or --page %s", token)
	}
}

func (p *printer) flush(t *tabwriter.Writer) {
	if err := t.Flush(); p.err == nil {
		p.err = err
	}
}
