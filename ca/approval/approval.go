// Package approval files the requests whose profile needs an approval, and has the ca issue those that somebody else than
// the requester approves. Everything it knows is in the database: any instance files, decides and issues.
//
//	pending ──approve──> approved ──recorded──> issued
//	   │                    └──against a rule by now──> refused
//	   ├──deny──> denied
//	   └──nobody decided in time──> expired (an approved one that could not be issued in time, too)
package approval

import (
	"encoding/json"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// State is how far a request is. Zero is none.
type State uint8

// The states. The database keeps their numbers; Expired follows from the clock and is never kept.
const (
	StateNone State = iota
	Pending         // waits for a decision
	Approved        // its certificate will be issued, once
	Issued          // has its certificate
	Denied          // by a person
	Refused         // approved, and then against a rule when it was to be issued
	Expired         // was not issued in time, and never will be
)

var stateNames = [...]string{"none", "pending", "approved", "issued", "denied", "refused", "expired"}

// String is the lower-case word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "none"
}

// Open reports whether something can still become of it.
func (s State) Open() bool { return s == Pending || s == Approved }

// Application is a request that was filed. What was asked never changes: whoever decides decides what they read.
type Application struct {
	ID        ca.ApprovalID
	State     State
	Request   ca.Request     // as it was asked
	Requester auth.Principal // by whom; of the principal as it was then
	Trial     ca.Trial       // what would have been issued when it was filed
	Unread    error          // not nil: another version filed it, and what this one does not know would be left out of the certificate

	FiledAt   time.Time // by the database's clock, as all of these
	ExpiresAt time.Time // it is pending, or approved, until then
	DecidedAt time.Time // zero: it is not decided
	DecidedBy string    // principal
	Comment   string    // of who decided; of a refused one, why

	Delay   string    // of an approved one that was tried in vain: why, for whoever may read it
	NextTry time.Time // of such a one

	Serial   pki.Serial   // of an issued one, and the next two
	Position pki.Position //
	Issuer   pki.IssuerID //
}

// grant is the requester's: what was proved when the request was filed.
func (a *Application) grant() (auth.Grant, error) {
	if a.Unread != nil {
		return auth.Grant{}, a.Unread
	}
	return a.Requester.Authorize(auth.ActionIssue, a.Request.Profile)
}

// asked is what of an application never changes, as the database keeps it.
type asked struct {
	Request   ca.Request
	Requester auth.Principal
	Trial     ca.Trial
}

// Asked writes what of the application never changes, for a database to keep.
func (a *Application) Asked() (string, error) {
	text, err := json.Marshal(asked{a.Request, a.Requester, a.Trial})
	if err != nil {
		return "", pki.Errorf(pki.KindInternal, "keep request", "%w", err)
	}
	return string(text), nil
}

// SetAsked reads what Asked wrote. What another version wrote is read as far as it can be, so that it is listed and may be denied.
func (a *Application) SetAsked(text string) {
	var kept asked
	strict := json.NewDecoder(strings.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&kept); err != nil {
		a.Unread = pki.Errorf(pki.KindUnavailable, "read request", "another version of Signet filed it: %w", err).WithHint("ask an instance of that version, or upgrade this one")
		kept = asked{}
		_ = json.Unmarshal([]byte(text), &kept) // as far as it goes
	}
	a.Request, a.Requester, a.Trial = kept.Request, kept.Requester, kept.Trial
}

// Filter selects applications; zero fields select everything.
type Filter struct {
	State    State
	Profiles []string // any of them
	Account  string
}

// Page is part of a list, newest first. Next is empty on the last page.
type Page struct {
	Applications []Application
	Next         string
}
