package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"signet.example/signet/api/client"
)

// What is printed to be typed next works when it is pasted.
func TestNextCommands(t *testing.T) {
	for _, tc := range []struct{ config, want string }{
		{"", "\nnext: signet status a.pem      or: signet revoke 'it'\\''s here.pem' ''\n"},
		{"my ca/signet.yaml", "\nnext: signet --config 'my ca/signet.yaml' status a.pem      or: signet --config 'my ca/signet.yaml' revoke 'it'\\''s here.pem' ''\n"},
	} {
		var out bytes.Buffer
		p := &printer{w: &out, config: tc.config}
		p.next("signet status %s      or: signet revoke %s %s", "a.pem", "it's here.pem", "")
		if out.String() != tc.want {
			t.Errorf("with %q: %s", tc.config, out.String())
		}
	}
	var out bytes.Buffer
	p := &printer{w: &out, config: "signet.yaml"}
	p.next("signet serve --config %s", "ca/signet.yaml")
	p.next("signet ceremony crl on its machine, then signet crl import --issuer %s FILE here", "root")
	if want := "\nnext: signet serve --config ca/signet.yaml\n\nnext: signet ceremony crl on its machine, then signet --config signet.yaml crl import --issuer root FILE here\n"; out.String() != want {
		t.Errorf("%s", out.String())
	}
}

// A suggested command calls the same server with the same credential, as far as it calls one.
func TestNextCommandsKeepTheCredential(t *testing.T) {
	var out bytes.Buffer
	flags := serverFlags{Server: "ca.example:8443", TokenFile: "my own.token", Root: "root.pem", Cert: "me.pem", CertKey: "me.key"}
	p := &printer{w: &out, config: "signet.yaml", server: flags.typed()}
	p.next("signet requests deny %s --reason TEXT; then signet backup", "7")
	const typed = "--server ca.example:8443 --token-file 'my own.token' --root root.pem --cert me.pem --cert-key me.key"
	if want := "\nnext: signet --config signet.yaml requests deny " + typed + " 7 --reason TEXT; then signet --config signet.yaml backup\n"; out.String() != want {
		t.Errorf("%s\nwant %s", out.String(), want)
	}
	for _, leaf := range kong.Must(new(commands), kong.Name("signet")).Model.Leaves(true) {
		calls := slices.ContainsFunc(leaf.Flags, func(f *kong.Flag) bool { return f.Name == "token-file" })
		command := "signet " + leaf.Path()
		if (aCall.FindString(command) == command) != calls {
			t.Errorf("%s has --token-file: %t", command, calls)
		}
	}
}

// Foreign text in names and errors has no effect on the reader's terminal, and makes no line of its own in a table.
func TestTerminalsAreNotTold(t *testing.T) {
	const hostile = "a\x1b[2J\u009b2J\x9b2J\x07\u202eb\u2028c\x7f"
	var out, notes bytes.Buffer
	a := &app{ctx: t.Context(), out: &out, err: &notes}
	if err := a.show(nil, func(p *printer) {
		p.line("%s", hostile)
		p.line(hostile)
		p.fields("name", hostile+"\n  serial  forged")
		p.table([]string{"ACTOR", "FACTS"}, [][]string{{hostile, "x\ny\tz\vw\r"}})
		p.next("signet show %s", hostile)
	}); err != nil {
		t.Fatal(err)
	}
	a.note("%s", hostile)
	a.fail(errors.New(hostile))
	for what, text := range map[string]string{"result": out.String(), "notes": notes.String()} {
		if strings.ContainsAny(text, "\x1b\u009b\x07\u202e\u2028\x7f\v\r\t") || strings.Contains(text, "\x9b") || !strings.Contains(text, `\x1b[2J\u009b2J`) {
			t.Errorf("%s: %q", what, text)
		}
	}
	if lines := strings.Count(out.String(), "\n"); lines != 7 {
		t.Errorf("%d lines, want 7:\n%s", lines, out.String())
	}
	if text := printableLine("a\x1b\u009b\u202e\u2028b\tc\r\n"); text != "ab\tc" {
		t.Errorf("a line of a server became %q", text)
	}
	if text := visible("büro\n\tя\\n"); text != "büro\n\tя\\n" {
		t.Errorf("what is harmless became %q", text)
	}
}

// An instance that refused its files is reported, whichever is listed first: the others differ because of it.
func TestInStepTellsOfRefusedFiles(t *testing.T) {
	a, b, refused := client.ProfileInstance{Name: "a", Digest: "1"}, client.ProfileInstance{Name: "b", Digest: "2", Behind: true}, client.ProfileInstance{Name: "c", Digest: "3", Failure: "line 1"}
	for _, all := range [][]client.ProfileInstance{{refused, a, b}, {a, b, refused}, {b, refused, a}} {
		if err := inStep(all); err == nil || !strings.HasPrefix(hintOf(err), "fix them there") {
			t.Errorf("%+v: %v; next: %s", all, err, hintOf(err))
		}
	}
}
