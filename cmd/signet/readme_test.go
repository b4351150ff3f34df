package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/internal/testport"
)

// TestReadme runs the tour of README.md word by word, in one shell, with free ports in place of the usual ones, and
// what docs/REVOCATION.md asks about a certificate where the tour has one.
func TestReadme(t *testing.T) {
	t.Parallel()
	tour := blocks(document(t, "README.md"))
	issued := slices.IndexFunc(tour, func(block string) bool { return strings.Contains(block, "signet issue app.example") })
	script := strings.Join(slices.Insert(tour, issued+1, blocks(document(t, "docs/REVOCATION.md"))...), "")
	// A busy machine needs longer.
	script = strings.Replace(script, "\nsleep 2\n", "\nuntil grep -q listening handshake.log; do sleep 0.1; done\n", 1)
	if strings.Count(script, "signet ") < 10 {
		t.Fatalf("the tour has hardly a command:\n%s", script)
	}
	follow(t, script, "made a certification authority", "app.example.pem: OK", "app.example.pem: good\n", "shard.crl is authentic and fresh", "refused, exit status", "not good, exit status 10", "keyCompromise", "the audit log is whole")
}

// TestOperations runs the recipes of docs/OPERATIONS.md word by word: the API, approvals, a backup, a batch, exports,
// keys in a token, and an off-line root with a server below it. Only what people type at a ceremony is given by flags.
func TestOperations(t *testing.T) {
	t.Parallel()
	text := document(t, "docs/OPERATIONS.md")
	approvals := blocks(section(t, text, "Four eyes: approvals"))
	if len(approvals) != 2 {
		t.Fatalf("approvals have %d blocks: want the profile, and what comes after the restart", len(approvals))
	}
	script := []string{`
mkdir ~/online && cd ~/online
echo "correct horse battery staple" > passphrase
signet init --local --passphrase-file passphrase
`, approvals[0], `
signet serve > serve.log 2>&1 &
signet doctor --health --wait 30s
`}
	script = append(script, blocks(section(t, text, "The API"))...)
	script = append(script, approvals[1])
	for _, heading := range []string{"Backup, restore, upgrade", "Many certificates at once", "Getting it out"} {
		script = append(script, blocks(section(t, text, heading))...)
	}
	script = append(script, `
kill %1
wait
`)
	script = append(script, blocks(section(t, text, "Keys in a token"))...)
	script = append(script, `
signet() {
    case "$1 ${2:-}" in
    "ceremony verify") command signet "$@" ;;
    "ceremony "*) command signet "$@" --yes --passphrase-file ~/online/passphrase ;;
    *) command signet "$@" ;;
    esac
}
`)
	script = append(script, blocks(section(t, text, "A root that is off-line"))...)
	follow(t, strings.Join(script, ""), `"principal": *"token:admin"`, "REASON_SUPERSEDED", "request [0-9a-f]{32} is pending", "approved; the certificate was issued",
		"release.pem: authentic and in force", "No number is used twice", "issued 2 certificates", "wrote 2 certificates to inventory.csv", "PrivateKeyEntry", "pkcs11:token=ca;object=issuing", "the record [0-9-]+-root-1 is whole", "published list number 1", "app.example.pem: authentic and in force")
}

// follow runs a script of a document in the root of the repository, with an empty home and free ports in place of the
// usual ones, and looks for what it must have shown.
func follow(t *testing.T, script string, shown ...string) {
	t.Helper()
	home := t.TempDir()
	// Of the shell that runs the tests.
	foreign := func(variable string) bool { return strings.HasPrefix(variable, "SIGNET_") }
	env := append(slices.DeleteFunc(os.Environ(), foreign), "HOME="+home, "GOFLAGS=-buildvcs=false")
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // the build must not start from nothing
		env = append(env, name+"="+goEnv(t, name))
	}
	for usual, variable := range map[string]string{"8443": "SIGNET_API_LISTEN", "8080": "SIGNET_PUBLIC_LISTEN", "9090": "SIGNET_OPS_LISTEN", "4443": ""} {
		port := testport.Free(t)
		script = strings.ReplaceAll(script, ":"+usual, ":"+port)
		if variable != "" {
			env = append(env, variable+"=127.0.0.1:"+port)
		}
	}
	// Whatever happens, no server outlives the test.
	script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + script
	// A server that does not start is waited for in the script.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-x", "-c", script)
	shell.Cancel = func() error { return shell.Process.Signal(syscall.SIGTERM) } // so that it ends what it started
	shell.WaitDelay = 10 * time.Second
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.Cleanup(func() { // what a part of the script began that is a shell of its own
		if shell.Process != nil {
			_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // no process may be left
		}
	})
	shell.Dir, shell.Env = filepath.Join("..", ".."), env
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	if err := shell.Run(); err != nil {
		var logs []byte
		found, _ := filepath.Glob(filepath.Join(home, "*", "serve.log")) // the pattern is good
		for _, path := range found {
			log, _ := os.ReadFile(path) // what can be had
			logs = append(append(logs, path...), log...)
		}
		t.Fatalf("%v\n%s\n--- logs\n%s", err, out.String(), logs)
	}
	for _, want := range shown {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("it does not show %q:\n%s", want, out.String())
		}
	}
}

// document reads a document of the repository.
func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is what stands under a heading of the second level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no section %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// blocks are the fenced blocks that are for a shell.
func blocks(text string) []string {
	var all []string
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			if inside = strings.TrimSpace(line) == "```sh"; inside {
				all = append(all, "")
			}
		case inside:
			all[len(all)-1] += line
		}
	}
	return all
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
