package wire_test

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/pki"
)

var update = flag.Bool("update", false, "write the golden shapes anew")

// TestShape keeps the JSON of steps what programs rely on: which fields there are, and of which kind. Values change from
// connection to connection; a field that goes away or changes its kind breaks whoever reads it.
func TestShape(t *testing.T) {
	ca := newCA(t)
	cert := ca.leaf(t, "server.example", rsaKey(t))
	cert.OCSPStaple = []byte("a staple")
	server := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), NextProtos: []string{"echo"}, CurvePreferences: []tls.CurveID{tls.CurveP256}}
	client := &tls.Config{RootCAs: ca.pool(), ServerName: "server.example", NextProtos: []string{"echo"}, Certificates: []tls.Certificate{ca.leaf(t, "client.example", nil)}}
	for name, s := range map[string]*session{
		"tls13":     run(t, server, client),
		"classical": run(t, wire.Classical(server), wire.Classical(client)),
		"refused":   run(t, server, &tls.Config{RootCAs: newCA(t).pool(), ServerName: "server.example"}),
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, st := range s.client {
				fmt.Fprintf(&got, "%d %s\n", st.Number, st.Name)
				for _, line := range shape(t, st) {
					fmt.Fprintf(&got, "  %s\n", line)
				}
			}
			golden(t, filepath.Join("testdata", "shapes", name+".txt"), got.String())
		})
	}
}

// TestShapeOfJudgements is TestShape for what others tell the Tap.
func TestShapeOfJudgements(t *testing.T) {
	at := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	var got strings.Builder
	tap := wire.NewTap(nil, wire.Config{Step: func(s wire.Step) {
		for _, line := range shape(t, s) {
			fmt.Fprintf(&got, "%s %s\n", s.Name, line)
		}
	}})
	tap.Judged(wire.Trust{Root: "r", Path: []string{"l", "r"}, Miss: "expired", Problem: "p", Note: "n"})
	tap.Checked(wire.Revocation{Policy: "hard", Decision: "refused", Problem: "p", Certificates: []wire.CertificateStatus{{
		Subject: "s", Serial: "1", Status: pki.StatusRevoked, Source: "crl", Location: "u", Age: time.Hour, Next: &at, Reason: "keyCompromise", RevokedAt: &at, Asked: []string{"ocsp: no"},
	}}})
	golden(t, filepath.Join("testdata", "shapes", "judgements.txt"), got.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the shape changed (go test -update writes it anew):\n%s\nwant\n%s", got, want)
	}
}

// shape lists the paths of a value in JSON, each with its kind.
func shape(t *testing.T, value any) []string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	walk(paths, "", tree)
	return slices.Sorted(maps.Keys(paths))
}

func walk(paths map[string]bool, path string, tree any) {
	switch v := tree.(type) {
	case map[string]any:
		for key, below := range v {
			walk(paths, path+"."+key, below)
		}
	case []any:
		for _, below := range v {
			walk(paths, path+"[]", below)
		}
	default:
		paths[fmt.Sprintf("%s %T", strings.TrimPrefix(path, "."), v)] = true
	}
}
