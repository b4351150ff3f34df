package crlserver_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// failures is a log of which the errors count. As many as fit are kept.
type failures struct {
	slog.Handler
	errors chan error
}

func (failures) Enabled(context.Context, slog.Level) bool { return true }

func (f failures) Handle(_ context.Context, line slog.Record) error {
	line.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			select {
			case f.errors <- err:
			default:
			}
		}
		return true
	})
	return nil
}

// A list that fails its own check is a bug or damage, and the log says so.
func TestFailedCheckIsReported(t *testing.T) {
	t.Parallel()
	s := testdb.SQLite(t)
	a, other := newAuthority(t, s, "Reported CA"), newAuthority(t, s, "Other CA")
	wrong := a.config()
	wrong.Signer = other.key
	log := failures{slog.DiscardHandler, make(chan error, 100)}
	start(t, s, &clock{}, func(c *crlserver.Config) { c.Log = slog.New(log) }, wrong)
	eventually(t, "a word on what to do", func() bool {
		select {
		case err := <-log.errors:
			return strings.HasSuffix(pki.Explain(err), "report it: this is a bug or damage")
		default:
			return false
		}
	})
}
