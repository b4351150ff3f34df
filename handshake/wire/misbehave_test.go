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
		how    wire.Misbehaviour
		want   wire.Class
		sent   int // certificates that the client sees
		staple bool
	}{
		{wire.Silent, wire.ClassTimeout, 0, false},
		{wire.Plain, wire.ClassNotTLS, 0, false},
		{wire.Cut, wire.ClassTruncated, 0, false},
		{wire.Flip, wire.ClassAltered, 0, false},
		{wire.NoClose, wire.ClassTruncated, 2, false},
		{wire.Lonely, "", 1, false},
		{wire.Garbage, "", 2, true},
		{"", "", 2, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client, server := loopback(t)
			if tt.want == wire.ClassTimeout {
				if err := client.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
			s := runOn(t, client, tt.how.Wrap(server), tt.how.Spoil(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}), &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"})
			if got := classOf(s.clientTap, s.clientErr); got != tt.want {
				t.Errorf("%s, %s: the client says %q of %v", tt.how, tls.VersionName(version), got, s.clientErr)
			}
			if tt.sent > 0 {
				if sent := step(t, s.client, "certificate").Certificate.Sent; len(sent) != tt.sent || sent[0].Stapled != tt.staple {
					t.Errorf("%s, %s: sent %+v", tt.how, tls.VersionName(version), sent)
				}
			}
		}
	}
}
