package revocation

import (
	"errors"
	"strings"
	"testing"
	"time"

	"signet.example/signet/pki"
)

// The table of decide, cell by cell. This test is internal: decide is the heart of the package and has no other name
// outside.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 999, time.UTC)
	then := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	last := func(kind Kind, reason pki.Reason) Entry {
		return Entry{Seq: 7, Kind: kind, Reason: reason, RevokedAt: then, Actor: "token:first"}
	}
	none := Entry{}
	superseded := last(KindRevoke, pki.Superseded)
	compromised := last(KindRevoke, pki.KeyCompromise)
	changed := last(KindReasonChange, pki.KeyCompromise)
	onHold := last(KindHold, pki.CertificateHold)
	released := last(KindRelease, 0)
	voided := last(KindVoid, 0)
	doubted := compromised
	doubted.InvalidityAt = then

	revoke := func(reason pki.Reason) change { return change{kind: KindRevoke, reason: reason} }
	toCompromise := change{kind: KindReasonChange, reason: pki.KeyCompromise}
	hold := change{kind: KindHold, reason: pki.CertificateHold}
	over := change{kind: KindHold, reason: pki.CertificateHold, over: true}
	release := change{kind: KindRelease}
	since := func(c change, at time.Time) change { c.invalidityAt = at; return c }

	const (
		writes = iota
		repeats
		conflicts
		fails   // KindFailedPrecondition
		refuses // KindRefused
		invalid
	)
	for _, test := range []struct {
		name   string
		change change
		last   Entry
		public bool
		want   int
	}{
		{"revoke good", revoke(pki.Superseded), none, false, writes},
		{"revoke good, unspecified", revoke(pki.Unspecified), none, false, writes},
		{"revoke released", revoke(pki.Superseded), released, false, writes},
		{"revoke held", revoke(pki.Superseded), onHold, false, writes},
		{"revoke again", revoke(pki.Superseded), superseded, false, repeats},
		{"revoke again, changed reason", revoke(pki.KeyCompromise), changed, false, repeats},
		{"revoke again, same doubt", since(revoke(pki.KeyCompromise), then), doubted, false, repeats},
		{"revoke again, no doubt stated", revoke(pki.KeyCompromise), doubted, false, repeats},
		{"revoke again, other doubt", since(revoke(pki.KeyCompromise), now), doubted, false, conflicts},
		{"revoke again, new doubt", since(revoke(pki.KeyCompromise), then), compromised, false, conflicts},
		{"revoke for another reason", revoke(pki.KeyCompromise), superseded, false, conflicts},
		{"revoke void", revoke(pki.Superseded), voided, false, conflicts},

		{"change reason", toCompromise, superseded, false, writes},
		{"change reason again", toCompromise, changed, false, repeats},
		{"change reason to what it was", toCompromise, compromised, false, repeats},
		{"change reason again, same doubt", since(toCompromise, then), doubted, false, repeats},
		{"change reason again, other doubt", since(toCompromise, now), doubted, false, conflicts},
		{"change reason to what it was, new doubt", since(toCompromise, then), compromised, false, conflicts},
		{"change reason of good", toCompromise, none, false, fails},
		{"change reason of held", toCompromise, onHold, false, fails},
		{"change reason of released", toCompromise, released, false, fails},
		{"change reason of void", toCompromise, voided, false, conflicts},

		{"hold good", hold, none, false, writes},
		{"hold released", hold, released, false, writes},
		{"hold again", hold, onHold, false, repeats},
		{"hold over another's", over, onHold, false, writes},
		{"hold revoked", hold, superseded, false, conflicts},
		{"hold void", hold, voided, false, conflicts},

		{"release held", release, onHold, false, writes},
		{"release again", release, released, false, repeats},
		{"release good", release, none, false, fails},
		{"release revoked", release, superseded, false, conflicts},
		{"release void", release, voided, false, conflicts},

		{"public: unspecified", revoke(pki.Unspecified), none, true, writes},
		{"public: keyCompromise", revoke(pki.KeyCompromise), none, true, writes},
		{"public: affiliationChanged", revoke(pki.AffiliationChanged), none, true, writes},
		{"public: superseded", revoke(pki.Superseded), none, true, writes},
		{"public: cessationOfOperation", revoke(pki.CessationOfOperation), none, true, writes},
		{"public: privilegeWithdrawn", revoke(pki.PrivilegeWithdrawn), none, true, writes},
		{"public: cACompromise", revoke(pki.CACompromise), none, true, refuses},
		{"public: aACompromise", revoke(pki.AACompromise), none, true, refuses},
		{"public: hold", hold, none, true, refuses},
		{"private: cACompromise", revoke(pki.CACompromise), none, false, writes},

		{"reason 7", revoke(7), none, false, invalid},
		{"reason 11", revoke(11), none, false, invalid},
		{"hold as a reason", revoke(pki.CertificateHold), none, false, invalid},
		{"removeFromCRL as a reason", revoke(pki.RemoveFromCRL), none, false, invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			entry, repeated, err := decide(test.change, circumstances{last: test.last, notAfter: now.Add(time.Hour), public: test.public, now: now})
			switch test.want {
			case writes:
				if err != nil || repeated || entry.Kind != test.change.kind {
					t.Fatalf("got %+v, %v, %v; want an entry", entry, repeated, err)
				}
				at := now.Truncate(time.Second)
				if test.change.kind == KindReasonChange || test.change.over {
					at = then
				}
				if !entry.RevokedAt.Equal(at) {
					t.Errorf("revoked at %v, want %v", entry.RevokedAt, at)
				}
			case repeats:
				if err != nil || !repeated || entry != test.last {
					t.Fatalf("got %+v, %v, %v; want the first entry", entry, repeated, err)
				}
			case conflicts:
				conflict, ok := errors.AsType[*ConflictError](err)
				if !ok || pki.KindOf(err) != pki.KindConflict || conflict.First != test.last {
					t.Fatalf("got %v; want a conflict that names the first", err)
				}
			default:
				want := map[int]pki.Kind{fails: pki.KindFailedPrecondition, refuses: pki.KindRefused, invalid: pki.KindInvalid}[test.want]
				if err == nil || pki.KindOf(err) != want || test.want == refuses && pki.Explain(err) == err.Error() {
					t.Fatalf("got %v; want %s, and what to do if it is refused", err, want)
				}
			}
		})
	}

	t.Run("hold expired", func(t *testing.T) {
		_, _, err := decide(hold, circumstances{notAfter: now.Add(-time.Second), now: now})
		if pki.KindOf(err) != pki.KindFailedPrecondition {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a changed reason keeps or replaces the doubt", func(t *testing.T) {
		first := superseded
		first.InvalidityAt = then
		kept, _, err := decide(toCompromise, circumstances{last: first, now: now})
		if err != nil || !kept.InvalidityAt.Equal(then) {
			t.Errorf("got %v, %v; want %v", kept.InvalidityAt, err, then)
		}
		replaced, _, err := decide(since(toCompromise, then.Add(time.Hour)), circumstances{last: first, now: now})
		if err != nil || !replaced.InvalidityAt.Equal(then.Add(time.Hour)) {
			t.Errorf("got %v, %v", replaced.InvalidityAt, err)
		}
	})
}

// What a refusal proposes names the certificate, so that it can be typed as it stands.
func TestHintOfAConflict(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	last := Entry{Seq: 7, Issuer: pki.IssuerID{1}, Serial: pki.Serial{19: 2}, Kind: KindRevoke, Reason: pki.Superseded}
	for kind, want := range map[Kind]string{
		KindRelease: "it stays revoked: issue another certificate",
		KindRevoke:  "signet revoke " + last.Issuer.String() + "/" + last.Serial.String() + " --reason keyCompromise",
	} {
		_, _, err := decide(change{kind: kind, reason: pki.CessationOfOperation}, circumstances{last: last, now: now})
		if e, ok := errors.AsType[*pki.Error](err); !ok || !strings.HasSuffix(e.Hint, want) {
			t.Errorf("got %+v; want %s", err, want)
		}
	}
}

// Of an imported serial nobody knows when its certificate ends: it can be held, and held again after a release.
func TestHoldWithoutAnEnd(t *testing.T) {
	hold := change{kind: KindHold, reason: pki.CertificateHold}
	for _, last := range []Entry{{}, {Seq: 7, Kind: KindRelease, Foreign: true}} {
		if entry, repeated, err := decide(hold, circumstances{last: last, now: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)}); err != nil || repeated || entry.Kind != KindHold {
			t.Errorf("after %+v: %+v, %t, %v", last, entry, repeated, err)
		}
	}
}
