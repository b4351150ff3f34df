package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

// TestAlertsNameMetrics holds the alert rules of the documents to the metrics that a server exports.
func TestAlertsNameMetrics(t *testing.T) {
	rules, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`signet_[a-z_]+`).FindAllString(string(rules), -1) {
		if !strings.Contains(string(source), `describe("`+strings.TrimPrefix(name, "signet_")+`"`) {
			t.Errorf("docs/alerts.yaml speaks of %s, which no server exports", name)
		}
	}
}

// TestInteropPrometheus has Prometheus judge what its users are given: the rules fire as their own tests say, and it
// finds no fault with the names, types and help of what a server exports.
func TestInteropPrometheus(t *testing.T) {
	promtool := func(stdin []byte, args ...string) {
		t.Helper()
		cmd := exec.Command("promtool", args...)
		cmd.Dir, cmd.Stdin = "../../docs", bytes.NewReader(stdin)
		if said, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
			t.Fatalf("%v: run scripts/test interop, which brings it, or install Debian's package prometheus", err)
		} else if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	promtool(nil, "check", "rules", "alerts.yaml")
	promtool(nil, "test", "rules", "alerts_test.yaml")
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		s.start(t)
		promtool(get(t, "http://"+s.addresses.Ops+"/metrics"), "check", "metrics")
	})
}

// TestProfiling: the ops listener asks for no credentials, so it shows what the process does only to those who
// configured it to.
func TestProfiling(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	for _, profiling := range []bool{false, true} {
		t.Run(fmt.Sprint(profiling), func(t *testing.T) {
			config := s.config(t)
			config.Ops.Profiling = profiling
			runInstance(t, config, server.Options{})
			for path, served := range map[string]bool{"/livez": true, "/debug/pprof/": profiling, "/debug/pprof/heap": profiling, "/debug/pprof/trace?seconds=0": profiling} {
				answer, err := http.Get("http://" + s.addresses.Ops + path)
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if (answer.StatusCode == http.StatusOK) != served {
					t.Errorf("%s: %s", path, answer.Status)
				}
			}
		})
	}
}

// There is no alarm about a list that is meant to expire: the last one of a week has no successor.
func TestLastListsMayEnd(t *testing.T) {
	now := time.Now()
	ends := func(in time.Duration, ending bool) crlserver.ListStatus {
		return crlserver.ListStatus{Head: crlserver.Head{Number: 1, NextUpdate: now.Add(in)}, Ending: ending}
	}
	never := crlserver.ListStatus{Failure: errors.New("no power")}
	for _, test := range []struct {
		lists []crlserver.ListStatus
		want  float64
		ok    bool
	}{
		{[]crlserver.ListStatus{never}, 0, true},
		{[]crlserver.ListStatus{ends(time.Hour, false), never}, 0, true},
		{[]crlserver.ListStatus{ends(time.Hour, true)}, 0, false},
		{[]crlserver.ListStatus{ends(time.Hour, true), ends(3*time.Hour, false), ends(2*time.Hour, false)}, float64(now.Add(2 * time.Hour).Unix()), true},
	} {
		if got, ok := server.TestingOnlyFirstEnd(test.lists); got != test.want || ok != test.ok {
			t.Errorf("next update at %v (%t), want %v (%t)", got, ok, test.want, test.ok)
		}
	}
}

// A log line with an error also says what to do about it.
func TestLogSaysWhatHelps(t *testing.T) {
	var text strings.Builder
	log := server.TestingOnlyHinting(slog.NewTextHandler(&text, nil)).With("part", "lists").WithGroup("group")
	failed := fmt.Errorf("list 7: %w", pki.Errorf(pki.KindUnavailable, "sign", "away").WithHint("bring it back"))
	for _, line := range []struct {
		err  any
		want string
	}{
		{failed, ` msg=failed part=lists group.list=7 group.error="list 7: sign: away" group.next="bring it back"` + "\n"},
		{pki.Errorf(pki.KindUnavailable, "sign", "away"), ` group.error="sign: away"` + "\n"},
		{"bring it back", ` group.error="bring it back"` + "\n"},
	} {
		text.Reset()
		if log.Error("failed", "list", 7, "error", line.err); !strings.HasSuffix(text.String(), line.want) {
			t.Errorf("the log says %s want ...%s", text.String(), line.want)
		}
	}
}
