package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store/postgres"
)

// All listeners share one connection, and each gets its notifications until it ends, the connection breaks, or no
// listener is left.
func TestOneConnectionListens(t *testing.T) {
	s, conn := openBeside(t, postgres.Config{Unsafe: true})
	connections := func(want int) {
		t.Helper()
		got := -1
		for deadline := time.Now().Add(time.Minute); got != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'signet listener'`).Scan(&got); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Fatalf("%d connections listen, want %d", got, want)
		}
	}
	type listening struct {
		heard chan string
		ended chan error
		stop  context.CancelFunc
	}
	start := func(listen func(ctx context.Context, heard func(string)) error) listening {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		l := listening{make(chan string, 100), make(chan error, 1), stop}
		go func() { l.ended <- listen(ctx, func(what string) { l.heard <- what }) }()
		return l
	}
	ledger := func(ctx context.Context, heard func(string)) error {
		return s.ListenLedger(ctx, func(news revocation.WakeUp) { heard(fmt.Sprint(news.Ranges, news.Seq)) })
	}
	lists := func(ctx context.Context, heard func(string)) error {
		return s.ListenPublications(ctx, func() { heard("list") })
	}
	hears := func(who string, l listening, want string) {
		t.Helper()
		select {
		case got := <-l.heard:
			if got != want {
				t.Fatalf("%s hears %q, want %q", who, got, want)
			}
		case err := <-l.ended:
			t.Fatalf("%s ended: %v", who, err)
		case <-time.After(time.Minute):
			t.Fatalf("%s hears nothing", who)
		}
	}
	notify := func(channel, payload string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `SELECT pg_notify($1, $2)`, channel, payload); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(who string, l listening, want error) {
		t.Helper()
		select {
		case err := <-l.ended:
			if pki.KindOf(err) != pki.KindUnavailable || want != nil && !errors.Is(err, want) {
				t.Errorf("%s ended with %v, want %v", who, err, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not end", who)
		}
	}
	unknown := fmt.Sprint(true, uint64(revocation.UnknownSeq))

	one := start(ledger)
	hears("the first", one, unknown)
	two := start(lists)
	hears("the second", two, "list")
	connections(1)
	notify("signet_publication", "")
	notify("signet_ledger", "7")
	hears("the second", two, "list")
	hears("the first", one, fmt.Sprint(false, 7))
	notify("signet_ledger", "")
	hears("the first", one, fmt.Sprint(false, uint64(revocation.UnknownSeq)))
	notify("signet_ranges", "")
	hears("the first", one, unknown)

	one.stop() // who began to listen leaves; the other stays
	ends("the first", one, context.Canceled)
	notify("signet_publication", "")
	hears("the second", two, "list")
	three := start(ledger)
	hears("the third", three, unknown)
	connections(1)

	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'signet listener'`); err != nil {
		t.Fatal(err)
	}
	for who, l := range map[string]listening{"the second": two, "the third": three} {
		ends(who, l, nil)
		l.stop()
	}
	four := start(ledger)
	hears("the fourth", four, unknown)
	connections(1)
	four.stop()
	ends("the fourth", four, context.Canceled)
	connections(0)
}
