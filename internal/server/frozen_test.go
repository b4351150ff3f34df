package server_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// TestDatabaseFreezes keeps every connection to the database and answers nothing more on it, as a host does that
// vanished. Within a time that is bounded everything goes on by other connections, and a stop ends while none works.
func TestDatabaseFreezes(t *testing.T) {
	t.Parallel()
	proxy := testdb.NewProxy(t, testdb.EmptyURL(t))
	one := found(t, proxy.URL+"&statement_timeout=1000")
	p := one.start(t)
	first, second := one.issue(t, "first.example"), one.issue(t, "second.example")
	one.revoke(t, first, pki.Superseded)
	await := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); !reached(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not three minutes later", what)
			}
		}
	}
	file := one.config(t).State().HighWater()
	marks := func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		return string(text)
	}
	proxy.Freeze()
	await("a revocation", func() bool {
		_, err := one.api.Revoke(t.Context(), client.RevokeRequest{Certificate: second.DER, Reason: pki.Superseded, WaitPublished: true})
		return err == nil
	})
	before := marks()
	one.issue(t, "third.example")
	await("the marks of what was seen", func() bool { return marks() != before })

	proxy.FreezeAll()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("the stop", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
}
