package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// TestStartsBehind revokes certificates, and is told that this is published everywhere, while another instance is
// between opening its books and serving: the first answer of that instance is no older.
func TestStartsBehind(t *testing.T) {
	t.Parallel()
	one := found(t, testdb.EmptyURL(t))
	two := one.beside(t)
	one.start(t)
	c := one.issue(t, "behind.example")
	leaf := parseDER(t, c.DER)
	late, err := server.Open(t.Context(), two.config(t), server.Options{Passphrase: []byte("correct horse"), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	one.revoke(t, c, pki.KeyCompromise)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- late.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := late.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	issuers, err := one.api.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := parseDER(t, issuers[slices.IndexFunc(issuers, func(i client.Issuer) bool { return i.ID == c.Issuer })].Certificates[0])
	at := func(address string) string { // of the instance that starts
		parsed, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		parsed.Host = two.addresses.Public
		return parsed.String()
	}
	leaf.OCSPServer[0] = at(leaf.OCSPServer[0])
	for _, address := range leaf.CRLDistributionPoints {
		if !names(t, at(address), leaf, by) {
			t.Errorf("%s does not name it yet", at(address))
		}
	}
	if result := askOCSP(t, leaf, by); result.Status != pki.StatusRevoked {
		t.Errorf("OCSP says %s", result.Status)
	}
}

// TestEndedWhileStarting: a start that is to end does, wherever it has come to, and logs no error: nothing is wrong.
func TestEndedWhileStarting(t *testing.T) {
	t.Parallel()
	config := found(t, "sqlite:signet.db").config(t)
	const last = "server.(*Server).Run"
	for _, step := range []string{"ca.(*issuers).finish", "ocspserver.(*Delegation).Round", "apicert.(*Certificate).Certify", last} {
		ctx, cancel := context.WithCancel(t.Context())
		var said syncBuffer
		s, err := server.Open(ctx, config, server.Options{Passphrase: []byte("correct horse"), Log: slog.New(slog.NewTextHandler(&said, nil)), Now: func() time.Time {
			if calledBy(step) {
				cancel()
			}
			return time.Now()
		}})
		if ctx.Err() == nil && step != last {
			t.Errorf("%s does not look at the clock", step)
			cancel()
		}
		if err == nil {
			if err := errors.Join(s.Run(ctx), s.Close(t.Context())); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(said.String(), "ERROR") {
			t.Errorf("ended in %s: %v\n%s", step, err, said.String())
		}
	}
}

// calledBy reports whether a function is at work below who asks.
func calledBy(function string) bool {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}
