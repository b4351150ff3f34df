package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const (
	keyLookInterval  = 5 * time.Second  // between two checks of the keys, for the log
	keyAuditInterval = 15 * time.Minute // between two entries in the audit log
)

// keyUsage returns the use of every key that this process opened, of issuers and of its responder.
func (s *Server) keyUsage() []keys.Usage {
	var all []keys.Usage
	for _, guard := range []*keys.Guard{s.keys, s.responderKeys} {
		if guard != nil {
			all = append(all, guard.Usage()...)
		}
	}
	return all
}

// keyLabel returns the name of a key for people: the issuer's label, or the key's own name.
func (s *Server) keyLabel(u keys.Usage) string {
	if known := s.issuers.known.Load(); known != nil {
		for _, issuer := range *known {
			if issuer.KeyHash == u.Key {
				return issuer.Label
			}
		}
	}
	return u.URI
}

// keyBook records what was reported about the keys.
type keyBook struct {
	since   time.Time
	failing map[string]bool       // by URI, as reported in the log
	written map[string]keys.Usage // by URI, as reported in the audit log
}

// watchKeys logs when a key begins to fail and when it stops failing. It writes the totals of their use to the audit
// log: one event per key that was used, every keyAuditInterval and at the end. Every certificate also has an event of
// its own.
func (s *Server) watchKeys(ctx context.Context) error {
	book := &keyBook{since: s.options.Now(), failing: make(map[string]bool), written: make(map[string]keys.Usage)}
	look := every(keyLookInterval, func(ctx context.Context) {
		s.tellKeys(book)
		if s.options.Now().Sub(book.since) >= keyAuditInterval {
			s.auditKeys(ctx, book)
		}
	})
	err := look(ctx)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyLookInterval)
	defer cancel()
	s.auditKeys(ending, book)
	return err
}

func (s *Server) tellKeys(book *keyBook) {
	for _, u := range s.keyUsage() {
		switch {
		case u.Failing != nil && !book.failing[u.URI]:
			s.troubles.once("key of "+s.keyLabel(u), u.Failing.Err)
		case u.Failing == nil && book.failing[u.URI]:
			s.log.Info("a key signs again", "key", u.URI)
		}
		book.failing[u.URI] = u.Failing != nil
	}
}

// auditKeys writes the use since the last time. If the database cannot be written to, or went back, the next call
// includes it.
func (s *Server) auditKeys(ctx context.Context, book *keyBook) {
	if s.fallenBack.Load() != nil {
		return
	}
	now, usage := s.options.Now(), s.keyUsage()
	var events []audit.Event
	for _, u := range usage {
		if event, used := keyEvent(u, book.written[u.URI], book.since, now); used {
			events = append(events, event)
		}
	}
	if len(events) > 0 {
		if err := s.store.AppendAudit(ctx, events); err != nil {
			s.report("audit of key use")(err)
			return
		}
	}
	book.since = now
	for _, u := range usage {
		book.written[u.URI] = u
	}
}

// keyEvent returns the event about the use of a key between two times; used is false if it was not used.
func keyEvent(u, before keys.Usage, from, to time.Time) (event audit.Event, used bool) {
	event = audit.Event{At: to, Actor: auth.System("server").ID, Action: "key.use", Target: "key/" + u.Key.String(), Outcome: audit.OK,
		Detail: map[string]string{"uri": u.URI, "from": from.UTC().Format(time.RFC3339), "to": to.UTC().Format(time.RFC3339)}}
	count := func(name string, n uint64) {
		if n > 0 {
			event.Detail[name], used = strconv.FormatUint(n, 10), true
		}
	}
	var failures, refused uint64
	for _, p := range keys.Purposes() {
		count(p.String(), u.Purposes[p].Signatures-before.Purposes[p].Signatures)
		failures += u.Purposes[p].Failures - before.Purposes[p].Failures
		refused += u.Purposes[p].Refused - before.Purposes[p].Refused
	}
	count("failures", failures)
	count("refused", refused)
	count("abandoned", u.Abandoned-before.Abandoned)
	if failures > 0 {
		event.Outcome = audit.Failed
	}
	return event, used
}

// checkKeys says for each issuer's key whether it can be used. A failing key does not make the instance unready:
// published data is served without keys, and the other keys work.
func (s *Server) checkKeys(ctx context.Context, add func(name, state, detail string)) {
	byKey := make(map[pki.KeyHash]keys.Usage)
	for _, u := range s.keyUsage() {
		byKey[u.Key] = u
	}
	for _, issuer := range *s.issuers.known.Load() {
		if s.authority == nil || issuer.KeyURI == "" || issuer.State == ca.IssuerPending {
			continue
		}
		name, u := "key/"+issuer.Label, byKey[issuer.KeyHash]
		_, err := s.authority.ReadySigner(ctx, issuer.ID)
		switch {
		// The key was taken away on purpose.
		case errors.Is(err, ca.ErrKeyElsewhere) && (issuer.SelfSigned() || issuer.State != ca.IssuerActive):
			add(name, "ok", "the key is not at this instance")
		case err != nil:
			add(name, "warning", "cannot be opened: "+pki.Explain(err))
		case u.Hanging > 0:
			add(name, "warning", fmt.Sprintf("%d calls do not return, %d wait: nothing of this issuer is signed until its token answers; other keys go on",
				u.Hanging, u.Queued))
		case u.Failing != nil:
			add(name, "warning", "fails since "+u.Failing.Since.UTC().Format(time.RFC3339)+": "+pki.Explain(u.Failing.Err)+resting(u.Failing))
		default:
			add(name, "ok", "")
		}
	}
}

func resting(f *keys.Failing) string {
	if f.Until.IsZero() {
		return ""
	}
	return "; after " + strconv.Itoa(f.Times) + " failures it is asked for no certificate before " + f.Until.UTC().Format(time.RFC3339)
}
