package revocation

import (
	"fmt"
	"time"

	"signet.example/signet/pki"
)

// ConflictError says that a certificate's status was already changed, to something other than requested. It is wrapped
// in a *pki.Error of KindConflict.
type ConflictError struct{ First Entry }

// Error names the first change.
func (e *ConflictError) Error() string {
	f := e.First
	switch f.Kind {
	case KindVoid:
		return fmt.Sprintf("serial %s is void since %s", f.Serial, f.RevokedAt.Format(time.RFC3339))
	case KindHold:
		return fmt.Sprintf("serial %s is on hold since %s (entry %d by %s)", f.Serial, f.RevokedAt.Format(time.RFC3339), f.Seq, f.Actor)
	}
	return fmt.Sprintf("serial %s was revoked at %s for %s (entry %d by %s)", f.Serial, f.RevokedAt.Format(time.RFC3339), f.Reason, f.Seq, f.Actor)
}

// state is the state of a certificate after its last entry.
type state uint8

const (
	good state = iota
	held
	revoked
	void
)

func stateOf(last Entry) state {
	switch last.Kind {
	case KindRevoke, KindReasonChange:
		return revoked
	case KindHold:
		return held
	case KindVoid:
		return void
	}
	return good
}

// change is a requested change of one certificate.
type change struct {
	kind         Kind // KindRevoke, KindReasonChange, KindHold or KindRelease
	reason       pki.Reason
	at           time.Time // when it happened, for a revocation that was made elsewhere; zero: now
	invalidityAt time.Time
	foreign      bool // of a serial that Signet did not issue
	over         bool // by an administrator, over the hold of another principal, who can then no longer end it
}

// circumstances are what decides whether a change is allowed.
type circumstances struct {
	last     Entry     // of the certificate; zero: none
	notAfter time.Time // of the certificate
	public   bool      // its issuer serves the public
	now      time.Time
}

// decide says what a change comes to: an entry to be appended (kind, reason and dates are set), the entry that made the
// same change before (repeated), or why it cannot be. It is the table of legal transitions:
//
//	         revoke            reason change        hold       release
//	good     revoke            refused              hold       refused, or repeated after a release
//	held     revoke            refused              repeated,  release
//	                                                or hold
//	                                                over it
//	revoked  repeated or       keyCompromise once,  conflict   conflict
//	         conflict          then as for revoke
//	void     conflict          conflict             conflict   conflict
func decide(c change, in circumstances) (entry Entry, repeated bool, err error) {
	if err := allowed(c, in.public); err != nil {
		return Entry{}, false, err
	}
	now := in.now.UTC().Truncate(time.Second)
	entry = Entry{Kind: c.kind, Reason: c.reason, RevokedAt: now, InvalidityAt: c.invalidityAt.UTC().Truncate(time.Second)}
	agrees := c.invalidityAt.IsZero() || in.last.InvalidityAt.Equal(entry.InvalidityAt) // what was said of the key, if it was said
	switch was := stateOf(in.last); {
	case was == void:
		return Entry{}, false, conflict(in.last)

	case c.kind == KindRevoke && was == revoked:
		if in.last.Reason == c.reason && agrees {
			return in.last, true, nil
		}
		return Entry{}, false, conflict(in.last)
	case c.kind == KindRevoke:
		if was == held && entry.InvalidityAt.IsZero() {
			entry.InvalidityAt = in.last.InvalidityAt
		}
		return entry, false, nil

	case c.kind == KindReasonChange && was == revoked:
		if in.last.Reason == pki.KeyCompromise && agrees {
			return in.last, true, nil
		}
		if in.last.Reason == pki.KeyCompromise {
			return Entry{}, false, conflict(in.last)
		}
		entry.RevokedAt = in.last.RevokedAt // the certificate was revoked then, whatever the reason
		if entry.InvalidityAt.IsZero() {
			entry.InvalidityAt = in.last.InvalidityAt
		}
		return entry, false, nil
	case c.kind == KindReasonChange:
		return Entry{}, false, precondition("the certificate is not revoked").WithHint("revoke it with reason keyCompromise")

	case c.kind == KindHold && was == revoked:
		return Entry{}, false, conflict(in.last)
	case c.kind == KindHold && was == held && c.over:
		entry.RevokedAt, entry.InvalidityAt = in.last.RevokedAt, in.last.InvalidityAt // it has been on hold since then
		return entry, false, nil
	case c.kind == KindHold && was == held:
		return in.last, true, nil
	case c.kind == KindHold:
		if !in.notAfter.IsZero() && in.now.After(in.notAfter) { // of an imported serial nobody knows the end
			return Entry{}, false, precondition("the certificate expired at %s: there is nothing to hold", in.notAfter.Format(time.RFC3339))
		}
		return entry, false, nil

	case c.kind == KindRelease && was == held:
		return entry, false, nil
	case c.kind == KindRelease && was == revoked:
		return Entry{}, false, conflict(in.last).WithHint("it stays revoked: issue another certificate")
	case c.kind == KindRelease:
		if in.last.Kind == KindRelease {
			return in.last, true, nil
		}
		return Entry{}, false, precondition("the certificate is not on hold")
	}
	return Entry{}, false, pki.Errorf(pki.KindInternal, opChange, "no rule for %s", c.kind)
}

// publicReasons are those that a subscriber certificate of a public authority may carry; unspecified is encoded by
// leaving the extension out, so it may too (Baseline Requirements, Section 7.2.2).
var publicReasons = map[pki.Reason]bool{
	pki.Unspecified: true, pki.KeyCompromise: true, pki.AffiliationChanged: true, pki.Superseded: true,
	pki.CessationOfOperation: true, pki.PrivilegeWithdrawn: true,
}

// allowed judges the reason, whatever the certificate.
func allowed(c change, public bool) error {
	refused := func(format string, args ...any) *pki.Error {
		return pki.Errorf(pki.KindRefused, opChange, format, args...).InField("reason")
	}
	switch {
	case c.kind == KindRelease:
		return nil
	case !c.reason.Valid():
		return pki.Errorf(pki.KindInvalid, opChange, "%s is not a reason of RFC 5280", c.reason).InField("reason")
	case c.kind == KindHold && public:
		return refused("an issuer that serves the public does not hold certificates").WithHint("revoke it, if it must not be used")
	case c.kind == KindHold:
		return nil
	case c.reason == pki.CertificateHold:
		return pki.Errorf(pki.KindInvalid, opChange, "certificateHold is no reason to revoke").InField("reason").WithHint("ask for a hold")
	case c.reason == pki.RemoveFromCRL: // RFC 5280, Section 5.3.1: in delta CRLs only
		return pki.Errorf(pki.KindInvalid, opChange, "removeFromCRL is no reason to revoke").InField("reason").WithHint("ask for a release")
	case public && !publicReasons[c.reason]:
		return refused("an issuer that serves the public does not revoke for %s", c.reason).
			WithHint("give unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn")
	}
	return nil
}

const opChange = "change status"

func conflict(first Entry) *pki.Error {
	err := &pki.Error{Kind: pki.KindConflict, Op: opChange, Err: &ConflictError{first}}
	switch {
	case stateOf(first) == revoked && first.Reason != pki.KeyCompromise:
		err.Hint = fmt.Sprintf("it stays revoked, for that reason; if the key was compromised, say so with a second revocation: signet revoke %s/%s --reason keyCompromise",
			first.Issuer, first.Serial)
	case stateOf(first) == void:
		err.Hint = "no certificate with this serial was ever released, and it is on the CRL: there is nothing to do"
	case stateOf(first) == revoked:
		err.Hint = "it stays revoked, and the reason stays: there is nothing left to do"
	}
	return err
}

func precondition(format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindFailedPrecondition, opChange, format, args...)
}
