package server_test

import (
	"context"
	"net/url"
	"slices"
	"testing"

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
