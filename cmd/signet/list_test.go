package main

import (
	"testing"
	"time"

	"signet.example/signet/api/client"
)

// What has ended is not called good, and what is revoked stays so.
func TestStatesThatEnd(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		status client.Status
		left   time.Duration
		want   string
	}{
		{client.StatusGood, time.Second, "good"}, {client.StatusGood, -time.Second, "expired"},
		{client.StatusRevoked, time.Second, "revoked"}, {client.StatusRevoked, -time.Second, "revoked"},
	} {
		if got := statusAt(client.Certificate{Status: test.status, NotAfter: now.Add(test.left)}, now); got != test.want {
			t.Errorf("%s with %s left is %q", test.status, test.left, got)
		}
	}
	for _, test := range []struct {
		c    client.Credential
		want string
	}{
		{client.Credential{}, "in force"}, {client.Credential{ExpiresAt: now.Add(time.Second)}, "in force"},
		{client.Credential{ExpiresAt: now}, "expired"}, {client.Credential{ExpiresAt: now, DisabledAt: now}, "disabled"},
	} {
		if got := credentialState(test.c, now); got != test.want {
			t.Errorf("%+v is %q", test.c, got)
		}
	}
}
