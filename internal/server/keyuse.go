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
	keyLookInterval  = 5 * time.Second  // between two looks at the keys, for the log
	keyAuditInterval = 15 * time.Minute // between two entries in the audit log
)

// keyUsage is the use of every key that this process opened: those of issuers and those of its responder.
func (s *Server) keyUsage() []keys.Usage {
	var all []keys.Usage
	for _, guard := range []*keys.Guard{s.keys, s.responderKeys} {
		if guard != nil {
			all = append(all, guard.Usage()...)
		}
	}
	return all
}

// keyLabel names a key for people: the issuer's label, or what the key is called.
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

// keyBook is what was said of the keys so far.
type keyBook struct {
	since   time.Time
	failing map[string]bool       // by URI, as the log has it
	written map[string]keys.Usage // by URI, as the audit log has it
}

// watchKeys says in the log when a key begins and ceases to fail, and writes totals of their use to the audit log: one
// event per key that was used, every quarter of an hour and at the end. Every certificate has an event of its own besides.
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

// auditKeys writes what has happened since the last time. A database that cannot be written to, or that went back, gets
// it with the next.
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

// keyEvent is the use of a key between two times; used is false if there was none.
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

// checkKeys says of each issuer's key whether it can be used. None makes the instance unready: what is published is
// served without any key, and the other keys go on.
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
		case errors.Is(err, ca.ErrKeyElsewhere) && (issuer.SelfSigned() || issuer.State != ca.IssuerActive): // taken away on purpose
			add(name, "ok", "the key is not at this instance")
		case err != nil:
			add(name, "warning", "cannot be opened: "+pki.Explain(err))
		case u.Hanging > 0:
			add(name, "warning", fmt.Sprintf("%d calls do not return, %d wait: nothing of this issuer is signed until its token answers; other keys go on", u.Hanging, u.Queued))
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
