package postgres

import (
	"context"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// statementTimeout is how long the server works at one statement. A connection string may say otherwise.
	statementTimeout = 30 * time.Second

	// margin is how much longer a statement is waited for than the server works at it. A server that says nothing until then is gone or
	// frozen, and the connection with it.
	margin = 10 * time.Second

	// deadAfter is how long a peer may leave what was sent unacknowledged.
	deadAfter = 15 * time.Second

	// pingPatience is how long a connection that was idle may take to show that it leads anywhere. Waiting for 16 of them must not take long.
	pingPatience = 3 * time.Second

	// listenPatience is how long a listener hears nothing before it asks whether anybody is there.
	listenPatience = 15 * time.Second
)

// dial connects so that a host that vanished is noticed, whoever waits for it: by what it does not acknowledge (RFC 5482, Section 3), and
// where nothing is under way by keep-alives.
func dial(timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control: func(network, _ string, conn syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var failed error
			if err := conn.Control(func(fd uintptr) { failed = setUserTimeout(fd, deadAfter) }); err != nil {
				return err
			}
			return failed
		},
	}
	return d.DialContext
}

// bounded waits for each statement, and each batch, for a time that is bounded. It is a tracer since those see every one of them, whichever
// connection it goes by. Waiting for a connection is bounded by those who have them.
type bounded struct{ patience time.Duration }

// boundOf returns what waits for statements of a statement_timeout as PostgreSQL reads it, in milliseconds where there is no unit; nil:
// there is no bound, or none that is understood.
func boundOf(timeout string) pgx.QueryTracer {
	d, err := time.ParseDuration(strings.ReplaceAll(timeout, "min", "m"))
	if n, notPlain := strconv.ParseUint(timeout, 10, 31); notPlain == nil {
		d, err = time.Duration(n)*time.Millisecond, nil
	}
	if err != nil || d <= 0 {
		return nil
	}
	return bounded{d + margin}
}

type (
	givingUp struct{} // the key of what ends the wait
	longer   struct{} // the key of a longer patience
)

// withTimeout is for statements that have another statement_timeout at the server.
func withTimeout(ctx context.Context, timeout time.Duration) context.Context {
	return context.WithValue(ctx, longer{}, timeout+margin)
}

func (b bounded) begin(ctx context.Context) context.Context {
	wait := b.patience
	if more, ok := ctx.Value(longer{}).(time.Duration); ok {
		wait = more
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return context.WithValue(ctx, givingUp{}, cancel)
}

func (bounded) end(ctx context.Context) {
	if cancel, ok := ctx.Value(givingUp{}).(context.CancelFunc); ok {
		cancel()
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (b bounded) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return b.begin(ctx)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b bounded) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { b.end(ctx) }

// TraceBatchStart implements pgx.BatchTracer.
func (b bounded) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return b.begin(ctx)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (bounded) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (b bounded) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) { b.end(ctx) }
