package server_test

import (
	"os"
	"testing"
	"time"

	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

// TestDatabaseThatWentBack: the marks of what was seen refuse a database that shows less, and one that went back while it
// was in use, until it is moved on.
func TestDatabaseThatWentBack(t *testing.T) {
	for name, marks := range map[string]string{
		"both":                       `{"ledger":1000,"audit":100000}`,
		"and its numbers grew since": `{"ledger":0,"audit":0,"went_back":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, config := initialize(t, "sqlite:signet.db")
			free, err := server.FreeAddresses()
			if err != nil {
				t.Fatal(err)
			}
			config.API.Listen, config.Public.Listen, config.Ops.Listen = free.API, free.Public, free.Ops
			if err := os.WriteFile(config.State().HighWater(), []byte(marks), 0o600); err != nil {
				t.Fatal(err)
			}
			start := func() error {
				s, err := config.Open(t.Context(), server.Options{Passphrase: passphrase})
				if err != nil {
					return err
				}
				return s.Close(t.Context())
			}
			if err := start(); pki.KindOf(err) != pki.KindFailedPrecondition {
				t.Fatalf("it was opened: %v", err)
			}
			if _, err := server.Advance(t.Context(), config, false, time.Now()); err != nil {
				t.Fatal(err)
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
