// Package approval files the requests whose profile needs an approval. Once someone other than the requester has
// approved a request, the CA issues its certificate. All state is in the database, so any instance can file, decide
// and issue.
//
//	pending ──approve──> approved ──issue──> issued
//	   │                    ├──breaks a rule by then──> refused
//	   │                    ├──deny──> denied
//	   │                    └──not issued in time──> expired
//	   ├──deny──> denied
//	   └──not decided in time──> expired
package approval

import (
	"encoding/json"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// State is the state of an application. The zero value is StateNone.
type State uint8

// The states. The database keeps their numbers; Expired follows from the clock and is never kept.
const (
	StateNone State = iota
	Pending         // waits for a decision
	Approved        // its certificate will be issued, once
	Issued          // has its certificate
	Denied          // by a person
	Refused         // approved, but it broke a rule when it was to be issued
	Expired         // was not issued in time, and never will be
)

var stateNames = [...]string{"none", "pending", "approved", "issued", "denied", "refused", "expired"}

// String returns the name of the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "none"
}

// Open reports whether the state can still change.
func (s State) Open() bool { return s == Pending || s == Approved }

// Application is a filed request. The request itself never changes, so an approver decides exactly what they read.
type Application struct {
	ID        ca.ApprovalID
	State     State
	Request   ca.Request     // as it was filed
	Requester auth.Principal // as it was when the request was filed
	Trial     ca.Trial       // what would have been issued when the request was filed

	// Unread is not nil if another version filed the request and this one does not know all its fields. It is not
	// issued here, because the certificate would lack them.
	Unread error

	// All times are of the database's clock.
	FiledAt   time.Time
	ExpiresAt time.Time // when a pending or approved application expires
	DecidedAt time.Time // zero: not decided
	DecidedBy string    // principal
	Comment   string    // of the approver; if the application was refused, the reason

	// After a failed attempt to issue an approved application:
	Delay   string        // why it failed, for all who may read the application
	Pause   time.Duration // from that attempt to the next; zero: an issuer has become active since
	NextTry time.Time     // when the next attempt is due

	// Of the certificate, if one was issued:
	Serial   pki.Serial
	Position pki.Position
	Issuer   pki.IssuerID
}

// grant returns the requester's grant, as proved when the request was filed.
func (a *Application) grant() (auth.Grant, error) {
	if a.Unread != nil {
		return auth.Grant{}, a.Unread
	}
	return a.Requester.Authorize(auth.ActionIssue, a.Request.Profile)
}

// asked holds the parts of an application that never change, in the form the database keeps.
type asked struct {
	Request   ca.Request
	Requester auth.Principal
	Trial     ca.Trial
}

// Asked returns the parts of the application that never change, as JSON for a database to keep.
func (a *Application) Asked() (string, error) {
	text, err := json.Marshal(asked{a.Request, a.Requester, a.Trial})
	if err != nil {
		return "", pki.Errorf(pki.KindInternal, "keep request", "%w", err)
	}
	return string(text), nil
}

// SetAsked reads the text that Asked returned. If another version wrote it and it has unknown fields, SetAsked reads
// as much as it can and sets Unread, so that the application can still be listed and denied.
func (a *Application) SetAsked(text string) {
	var kept asked
	strict := json.NewDecoder(strings.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&kept); err != nil {
		a.Unread = pki.Errorf(pki.KindUnavailable, "read request", "another version of Signet filed it: %w", err).
			WithHint("ask an instance of that version, or upgrade this one")
		kept = asked{}
		_ = json.Unmarshal([]byte(text), &kept) // an error leaves the rest empty
	}
	a.Request, a.Requester, a.Trial = kept.Request, kept.Requester, kept.Trial
}

// Filter selects applications. A zero field selects everything.
type Filter struct {
	State    State
	Profiles []string // any of them
	Account  string
}

// Page is one page of a list, newest first. Next is the cursor of the next page; it is empty on the last one.
type Page struct {
	Applications []Application
	Next         string
}
