package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/handshaketest"
)

// told is what a client tells: the first step that failed or warns, and the verdict.
type told struct {
	failed string
	result string
	reason string
}

func readTold(t *testing.T, out []byte) told {
	t.Helper()
	var all told
	for line := range bytes.Lines(out) {
		var object struct {
			Step, Outcome, Result, Reason string
		}
		if err := json.Unmarshal(line, &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if (object.Outcome == "failed" || object.Outcome == "warning") && all.failed == "" {
			all.failed = object.Step
		}
		if object.Result != "" {
			all.result, all.reason = object.Result, object.Reason
		}
	}
	return all
}

// expectation is how connect must end with a fault.
type expectation struct {
	status int
	step   string // that fails or warns first
}

func expected(f fault) expectation {
	if f.peer == nil {
		return map[string]expectation{
			"silent": {2, "close"}, "plain": {2, "close"}, "cut": {1, "close"}, "flip": {1, "close"}, "no-close": {0, "close"}, "lonely": {1, "trust"},
			"garbage-staple": {0, ""}, // the CRL of the built-in authority says good
		}[f.Name]
	}
	switch f.peer.Want {
	case handshaketest.Accepted:
		return expectation{0, ""}
	case handshaketest.Untrusted:
		return expectation{1, "trust"}
	}
	return expectation{1, "revocation"}
}

// TestMisbehave has a person's client meet every fault that serve offers.
func TestMisbehave(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "root.pem")
			turns, visits := f.peer != nil && f.peer.Turn != nil, "1"
			if turns {
				visits = "2"
			}
			listening, say := io.Pipe()
			served := make(chan int, 1)
			go func() {
				defer say.Close()
				served <- run([]string{"handshake", "serve", "127.0.0.1:0", "--misbehave", f.Name, "--root-file", root, "--count", visits}, strings.NewReader(""), say, io.Discard)
			}()
			lines := bufio.NewReader(listening)
			first, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			address := strings.TrimSpace(strings.TrimPrefix(first, "listening on https://"))
			drained := make(chan []byte, 1)
			go func() { rest, _ := io.ReadAll(lines); drained <- rest }()
			arguments := []string{"handshake", "connect", address, "--servername", "localhost", "--roots", root, "--policy", "hard", "--allow", "127.0.0.0/8", "--trace", "json", "--timeout", "30s", "--budget", "20s"}
			switch {
			case f.Name == "silent":
				arguments = append(arguments, "--timeout", "500ms")
			case f.Name == "no-close":
				arguments = append(arguments, "--get", "/")
			case f.peer != nil && f.peer.Stalls:
				arguments = append(arguments, "--budget", "300ms")
			}
			if turns {
				arguments = append(arguments, "--cache", t.TempDir())
				if status := run(arguments, strings.NewReader(""), io.Discard, io.Discard); status != 0 {
					t.Errorf("before the turn: exit status %d", status)
				}
				time.Sleep(f.peer.Later) // the client is a person's, with the clock of the machine
			}
			var out, errs bytes.Buffer
			status := run(arguments, strings.NewReader(""), &out, &errs)
			want, got := expected(f), readTold(t, out.Bytes())
			if status != want.status {
				t.Errorf("exit status %d, want %d: %s%s", status, want.status, out.String(), errs.String())
			}
			if got.failed != want.step {
				t.Errorf("failed at step %q, want %q", got.failed, want.step)
			}
			if want.status == 1 && (got.result != "refused" || got.reason == "") {
				t.Errorf("the verdict is %q, %q", got.result, got.reason)
			}
			rest := <-drained
			for _, text := range []string{"misbehaving: " + f.Name, f.Does, "A good client must: " + f.Answer, "--policy hard"} {
				if !strings.Contains(string(rest), text) {
					t.Errorf("serve does not say %q", text)
				}
			}
			if status := <-served; status != 0 {
				t.Errorf("the server ended with %d", status)
			}
		})
	}
}

// TestMisbehaveList: every fault has a name of one word, a sentence, and an answer.
func TestMisbehaveList(t *testing.T) {
	var out, errs bytes.Buffer
	if status := run([]string{"handshake", "serve", "--misbehave", "list"}, strings.NewReader(""), &out, &errs); status != 0 {
		t.Fatalf("exit status %d: %s", status, errs.String())
	}
	seen := make(map[string]bool)
	for _, f := range faults() {
		if seen[f.Name] || f.Name == "" || strings.ContainsAny(f.Name, " ,") {
			t.Errorf("%q is no name of its own", f.Name)
		}
		seen[f.Name] = true
		if !strings.HasSuffix(f.Does, ".") || f.Answer == "" {
			t.Errorf("%s: %q, %q", f.Name, f.Does, f.Answer)
		}
		if !strings.Contains(out.String(), f.Name+" ") {
			t.Errorf("%s is not on the list", f.Name)
		}
	}
}

// TestMisbehaveRefusals: what cannot be served is said, with what to do.
func TestMisbehaveRefusals(t *testing.T) {
	for _, tt := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"--misbehave", "naughty"}, "--misbehave list"},
		{nil, "--cert and --key"},
		{[]string{"--misbehave", "expired", "--cert", "a.pem", "--key", "a.key"}, "authority of its own"},
	} {
		var out, errs bytes.Buffer
		status := run(append([]string{"handshake", "serve", "127.0.0.1:0"}, tt.arguments...), strings.NewReader(""), &out, &errs)
		if status != 2 || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%v: exit status %d, %s", tt.arguments, status, errs.String())
		}
	}
}
