package server

import (
	"context"
	"errors"
	"log/slog"

	"signet.example/signet/pki"
)

// hinting is a log handler that adds to each line the hint of the error in it.
type hinting struct{ slog.Handler }

// Handle writes one line.
func (h hinting) Handle(ctx context.Context, line slog.Record) error {
	next := ""
	line.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			if e, ok := errors.AsType[*pki.Error](err); ok {
				next = e.Hint
			}
		}
		return next == ""
	})
	if next != "" {
		line = line.Clone()
		line.AddAttrs(slog.String("next", next))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h hinting) WithAttrs(attributes []slog.Attr) slog.Handler {
	return hinting{h.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (h hinting) WithGroup(name string) slog.Handler { return hinting{h.Handler.WithGroup(name)} }
