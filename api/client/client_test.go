package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// What cannot be an address or a token is a mistake of the caller's, and no server that was not reached.
func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		address, token, field string
	}{
		{"ca.example:8443", "", ""},
		{"https://ca.example:8443/", "sgt_x", ""},
		{"[2001:db8::1]:8443", "", ""},
		{"", "", "server"},
		{"ca.example", "", "server"},
		{"http://ca.example:8443", "", "server"},
		{"ca.example:8443", "secret\n", "token"},
		{"ca.example:8443", "two secrets", "token"},
		{"ca.example:8443", "sécret", "token"},
	} {
		c, err := client.New(client.Config{Address: test.address, Roots: x509.NewCertPool(), Token: test.token})
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", test.address, err)
				continue
			}
			c.Close()
			continue
		}
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Kind != pki.KindInvalid || e.Field != test.field || e.Hint == "" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q, %q: %v", test.address, test.token, err)
		}
	}
}

// Who ended a call himself, or gave it too little time, is told so, and need not try again for it.
func TestTheEndOfAContext(t *testing.T) {
	c, err := client.New(client.Config{Address: "127.0.0.1:1", Roots: x509.NewCertPool()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for _, test := range []struct {
		ctx  context.Context
		want error
	}{{canceled, context.Canceled}, {late, context.DeadlineExceeded}} {
		_, unary := c.WhoAmI(test.ctx)
		_, batch := c.IssueBatch(test.ctx)
		for _, err := range []error{unary, batch} {
			if !errors.Is(err, test.want) || pki.KindOf(err) != pki.KindUnavailable || errors.Is(err, client.ErrNotReached) {
				t.Errorf("want %v of kind unavailable, got %v (%s)", test.want, err, pki.KindOf(err))
			}
		}
	}
}
