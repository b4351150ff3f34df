package wire_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"signet.example/signet/handshake/wire"
)

// TestNoStepHoldsASecret looks for every secret of a session, in the spellings that text could have it in, in all that the
// Tap tells at both ends.
func TestNoStepHoldsASecret(t *testing.T) {
	ca := newCA(t)
	for name, change := range map[string]func(*tls.Config) *tls.Config{"TLS 1.3": (*tls.Config).Clone, "classical": wire.Classical} {
		var log bytes.Buffer
		client := change(&tls.Config{RootCAs: ca.pool(), ServerName: "server.example"})
		client.KeyLogWriter = &log
		s := run(t, change(&tls.Config{Certificates: []tls.Certificate{ca.leaf(t, "server.example", rsaKey(t))}}), client)
		if s.clientErr != nil {
			t.Fatal(s.clientErr)
		}
		told := tellAll(t, append(s.client, s.server...))
		secrets := 0
		for line := range strings.Lines(log.String()) {
			var label string
			var random, secret []byte
			if _, err := fmt.Sscanf(line, "%s %x %x", &label, &random, &secret); err != nil {
				t.Fatal(err)
			}
			secrets++
			for _, spelling := range []string{hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), base64.StdEncoding.EncodeToString(secret)[:40], string(secret)} {
				if strings.Contains(told, spelling) {
					t.Errorf("%s: %s is told", name, label)
				}
			}
		}
		if secrets == 0 {
			t.Errorf("%s: the KeyLogWriter of the configuration was given nothing", name)
		}
	}
}

// tellAll is all that steps say, as text and as JSON.
func tellAll(t *testing.T, steps []wire.Step) string {
	t.Helper()
	var out bytes.Buffer
	show := wire.Printer{W: &out}
	for _, s := range steps {
		if err := show.Step(s); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&out).Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestPrinter(t *testing.T) {
	s := wire.Step{
		Number: 3, Title: "A title", Outcome: wire.Warning, Millis: 1.25,
		Says:     []string{"A sentence that is long enough to be broken into two lines at forty columns."},
		Facts:    []wire.Fact{{Name: "name", Values: []string{"one", "two\x1b[31m\u202e"}}},
		Messages: []wire.Message{{From: wire.Client, Name: "ClientHello", Octets: 7}, {From: wire.Server, Name: "Finished", Octets: 36, Encrypted: true}},
	}
	for _, tt := range []struct {
		printer wire.Printer
		want    string
	}{
		{wire.Printer{Width: 44}, "" +
			" 3  A title  (!)                      1.2 ms\n" +
			"    → ClientHello 7\n" +
			"    ← {Finished} 36\n" +
			"    A sentence that is long enough to be\n" +
			"    broken into two lines at forty columns.\n" +
			"    name            one\n" +
			"                    two?[31m?\n\n"},
		{wire.Printer{Width: 44, Colour: true}, "" +
			"\x1b[1;33m 3  A title  (!)\x1b[0m                      \x1b[2m1.2 ms\x1b[0m\n" +
			"    \x1b[2m→ ClientHello 7\x1b[0m\n" +
			"    \x1b[2m← {Finished} 36\x1b[0m\n" +
			"    A sentence that is long enough to be\n" +
			"    broken into two lines at forty columns.\n" +
			"    \x1b[2mname            \x1b[0mone\n" +
			"    \x1b[2m                \x1b[0mtwo?[31m?\n\n"},
	} {
		var out bytes.Buffer
		tt.printer.W = &out
		if err := tt.printer.Step(s); err != nil || out.String() != tt.want {
			t.Errorf("%v\n%q\nwant\n%q", err, out.String(), tt.want)
		}
	}
}
