package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadme runs the tour of README.md word by word, in one shell, with free ports in place of the usual ones.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script := snippets(string(text), "sh")
	if strings.Count(script, "signet ") < 10 {
		t.Fatalf("the tour has hardly a command:\n%s", script)
	}
	home := t.TempDir()
	foreign := func(variable string) bool { return strings.HasPrefix(variable, "SIGNET_") } // of the shell that runs the tests
	env := append(slices.DeleteFunc(os.Environ(), foreign), "HOME="+home, "GOFLAGS=-buildvcs=false")
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // the build must not start from nothing
		env = append(env, name+"="+goEnv(t, name))
	}
	for usual, variable := range map[string]string{"8443": "SIGNET_API_LISTEN", "8080": "SIGNET_PUBLIC_LISTEN", "9090": "SIGNET_OPS_LISTEN", "4443": ""} {
		port := freePort(t)
		script = strings.ReplaceAll(script, ":"+usual, ":"+port)
		if variable != "" {
			env = append(env, variable+"=127.0.0.1:"+port)
		}
	}
	// Whatever happens, no server outlives the test.
	script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + script
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a server that does not start is waited for in the tour
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-x", "-c", script)
	shell.Cancel = func() error { return shell.Process.Signal(syscall.SIGTERM) } // so that it ends what it started
	shell.WaitDelay = 10 * time.Second
	shell.Dir, shell.Env = filepath.Join("..", ".."), env
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	if err := shell.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(home, "tour", "serve.log")) // what can be had
		t.Fatalf("%v\n%s\n--- serve.log\n%s", err, out.String(), log)
	}
	for _, want := range []string{"made a certification authority", "app.example.pem: OK", "refused, exit status", "not good, exit status 10", "keyCompromise", "the audit log is whole"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tour does not show %q:\n%s", want, out.String())
		}
	}
}

// snippets joins the fenced blocks of one language.
func snippets(text, language string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = strings.TrimSpace(line) == "```"+language
		case inside:
			b.WriteString(line)
		}
	}
	return b.String()
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
