package wire_test

import (
	"crypto/tls"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
)

func TestMisbehaviours(t *testing.T) {
	ca := newCA(t)
	cert := ca.leaf(t, "server.example", nil)
	for _, tt := range []struct {
		name   string
		want   wire.Class
		sent   int // certificates that the client sees
		staple bool
	}{
		{"silent", wire.ClassTimeout, 0, false},
		{"plain", wire.ClassNotTLS, 0, false},
		{"cut", wire.ClassTruncated, 0, false},
		{"flip", wire.ClassAltered, 0, false},
		{"no-close", wire.ClassTruncated, 2, false},
		{"lonely", "", 1, false},
		{"garbage-staple", "", 2, true},
		{"", "", 2, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			how, err := wire.ParseMisbehaviour(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			client, server := loopback(t)
			if tt.want == wire.ClassTimeout {
				if err := client.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
			s := runOn(t, client, how.Wrap(server), how.Spoil(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}), &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"})
			if got := classOf(s.clientTap, s.clientErr); got != tt.want {
				t.Errorf("%s, %s: the client says %q of %v", tt.name, tls.VersionName(version), got, s.clientErr)
			}
			if tt.sent > 0 {
				if sent := step(t, s.client, "certificate").Certificate.Sent; len(sent) != tt.sent || sent[0].Stapled != tt.staple {
					t.Errorf("%s, %s: sent %+v", tt.name, tls.VersionName(version), sent)
				}
			}
		}
	}
	if _, err := wire.ParseMisbehaviour("naughty"); err == nil {
		t.Error("an unknown misbehaviour was taken")
	}
}
