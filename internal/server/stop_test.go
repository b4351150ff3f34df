package server_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// TestStopWhileWaiting stops the server while a caller waits for a revocation to be published: the call is answered as
// if the server were not stopping. A call that comes too late to be answered changes nothing.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		s := found(t, database)
		p := s.start(t)
		answered := 0
		for wait := time.Millisecond; wait < 2*time.Second && answered < 3; wait = wait * 3 / 2 {
			c := s.issue(t, "a.example")
			type answer struct {
				change *client.Change
				err    error
			}
			done := make(chan answer, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				change, err := s.api.Revoke(ctx, client.RevokeRequest{Certificate: c.DER, Reason: pki.Superseded, WaitPublished: true})
				done <- answer{change, err}
			}()
			time.Sleep(wait) // whichever moment that is
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			got := <-done
			<-p.done
			p = s.start(t)
			check, err := s.api.CheckCertificate(t.Context(), c.DER, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case got.err == nil && !got.change.PublishedAt.IsZero():
				answered++
			case got.err == nil || check.Revocation != nil:
				t.Errorf("stopped after %s: %+v, %v, and it is revoked", wait, got.change, got.err)
			}
		}
		if answered == 0 {
			t.Error("nobody waited")
		}
		p.stop(t)
	})
}
