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
	// statementTimeout is how long the server may work on a statement. A connection string can change it.
	statementTimeout = 30 * time.Second

	// margin is added to the server's time limit for a statement. A server that has not answered by then is gone or
	// frozen, and the connection is useless.
	margin = 10 * time.Second

	// deadAfter is how long sent data may stay unacknowledged.
	deadAfter = 15 * time.Second

	// pingPatience is how long an idle connection may take to answer a ping. Checking 16 of them must not take long.
	pingPatience = 3 * time.Second

	// listenPatience is how long a listener waits for a notification before it checks the connection.
	listenPatience = 15 * time.Second
)

// dial connects so that a vanished host is noticed on every connection: by unacknowledged data (RFC 5482, Section 3)
// and, on an idle connection, by keep-alives.
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

// bounded limits how long a statement or batch may take. It is a tracer, because tracers see every one of them on every
// connection. The wait for a free connection is limited by those that use them.
type bounded struct{ patience time.Duration }

// boundOf returns the limit for statements with a given statement_timeout as PostgreSQL reads it: in milliseconds if
// there is no unit. Nil: there is no limit, or none that is understood.
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
	givingUp struct{} // context key of the function that ends the wait
	longer   struct{} // context key of a longer limit
)

// withTimeout is for statements for which the server has another statement_timeout.
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
