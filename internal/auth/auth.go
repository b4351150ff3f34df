// Package auth turns a credential into a Principal and a Principal into a Grant. A Grant is the proof that privileged
// calls require. Only this package can make one, and its zero value allows nothing.
package auth

import (
	"fmt"
	"slices"
	"strings"

	"signet.example/signet/pki"
)

// Role is the purpose of a credential. The zero value is no role and is denied everything.
type Role uint8

// The roles.
const (
	RoleNone      Role = iota
	RoleAuditor        // reads everything, the audit log included; changes nothing
	RoleRequester      // issues under its profiles; reads and revokes its account's certificates
	RoleAdmin          // everything
	RoleApprover       // reads requests that need an approval, and decides them; does not issue or revoke
)

var roleNames = [...]string{"none", "auditor", "requester", "admin", "approver"}

// String returns the name in lower case.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "none"
}

// ParseRole reads "auditor", "requester", "approver" or "admin".
func ParseRole(text string) (Role, error) {
	if i := slices.Index(roleNames[:], text); i > 0 {
		return Role(i), nil
	}
	return RoleNone, pki.Errorf(pki.KindInvalid, "parse role", "%q: want auditor, requester, approver or admin", text).InField("role")
}

// Principal is the caller, as proved by its credential. Authenticator, Renewal and System make it.
type Principal struct {
	ID        string // "token:…", "certificate:…", "renewal:…" or "system:…"; goes into audit events
	Account   string // account of the certificates that it requests
	Role      Role
	Profiles  []string // the only ones it may issue under or approve; empty: all that allow its role
	Source    string   // network address
	RequestID string   // of this call

	// Certificate, "issuer/serial", is the client certificate that proved the credential, or the certificate to be
	// renewed; empty for neither.
	Certificate string
}

// System returns the principal of Signet itself: reconciliation, responder certificates, schedules.
func System(component string) Principal {
	return Principal{ID: "system:" + component, Account: "system", Role: RoleAdmin}
}

// IsSystem reports whether the principal is Signet itself.
func (p Principal) IsSystem() bool { return strings.HasPrefix(p.ID, "system:") }

// Renewal returns the principal of a caller that has proved to hold the private key of a certificate. It may have the
// certificate renewed under its profile and for its account, and nothing else. certificate is "issuer/serial". The
// caller of Renewal has checked the proof, and that the certificate is recorded, valid and not revoked.
func Renewal(certificate, account, profile string) Principal {
	return Principal{ID: "renewal:" + certificate, Account: account, Role: RoleRequester, Profiles: []string{profile}, Certificate: certificate}
}

// Credential returns the name of the credential that a principal proved; ok is false for principals without one:
// renewals and Signet itself.
func (p Principal) Credential() (name string, ok bool) {
	kind, name, _ := strings.Cut(p.ID, ":")
	return name, kind == tokenKind || kind == certificateKind
}

// The prefixes of the ids of principals with a credential.
const tokenKind, certificateKind = "token", "certificate"

// Action is a privileged action. The zero value is none.
type Action uint8

// The actions.
const (
	ActionNone    Action = iota
	ActionIssue          // scope: profile name
	ActionRevoke         // scope: account of the certificate
	ActionRead           // scope: account whose certificates are read; "" means all
	ActionAudit          // read the audit log
	ActionManage         // issuers, profiles, credentials, jobs, key blocks
	ActionBlock          // scope: hash of the public key to block. Administrators have ActionManage for that
	ActionApprove        // scope: profile name; read and decide the requests that wait for an approval
)

var actionNames = [...]string{"do nothing", "issue certificates", "revoke certificates", "read what other accounts have", "read the audit log",
	"administer the server (issuers, profiles, credentials, mass revocations)", "block keys", "decide requests"}

// String returns what a principal does, to follow "may".
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return actionNames[ActionNone]
}

// Grant proves that a principal may perform one action within one scope.
type Grant struct {
	principal Principal
	action    Action
	scope     string
	scopes    []string // instead of a single scope
	any       bool
}

// Principal returns the principal; the zero Principal for the zero Grant.
func (g Grant) Principal() Principal { return g.principal }

// Allows reports whether the grant is for this action and covers this scope. The zero Grant allows nothing.
func (g Grant) Allows(action Action, scope string) bool {
	if g.action == ActionNone || g.action != action {
		return false
	}
	if g.scopes != nil {
		return slices.Contains(g.scopes, scope)
	}
	return g.any || g.scope == scope
}

// All reports whether the grant covers every scope of its action.
func (g Grant) All() bool { return g.action != ActionNone && g.any }

// Scopes returns the scopes that the grant is limited to; none if it is for one scope or for every scope.
func (g Grant) Scopes() []string { return g.scopes }

// AuthorizeProfiles returns the grant for an action on profiles: those that the principal is limited to, or otherwise
// all.
func (p Principal) AuthorizeProfiles(action Action) (Grant, error) {
	if len(p.Profiles) == 0 {
		return p.Authorize(action, "")
	}
	for _, name := range p.Profiles {
		if _, err := p.Authorize(action, name); err != nil {
			return Grant{}, err
		}
	}
	return Grant{principal: p, action: action, scopes: slices.Clone(p.Profiles)}, nil
}

// Authorize returns the grant for an action within a scope, or an error of KindDenied. Scope "" asks for every scope.
func (p Principal) Authorize(action Action, scope string) (Grant, error) {
	g := Grant{principal: p, action: action, scope: scope, any: scope == ""}
	if p.may(action, scope) {
		return g, nil
	}
	if len(p.Profiles) > 0 && (Principal{Role: p.Role}).may(action, scope) { // only the list of profiles forbids it
		return Grant{}, pki.Errorf(pki.KindDenied, "authorize", "%s may %s under the profile %s only, not%s", p.ID, action, strings.Join(p.Profiles, ", "), action.within(scope)).
			WithHint("name one of these profiles")
	}
	return Grant{}, pki.Errorf(pki.KindDenied, "authorize", "%s may not %s%s: its role is %s", p.ID, action, action.within(scope), p.Role).
		WithHint("ask an administrator for a credential with another role")
}

// AuthorizeOwn is Authorize for the certificates of an account: administrators (and for reading, auditors) get every
// scope, requesters their own account.
func (p Principal) AuthorizeOwn(action Action) (Grant, error) {
	if p.may(action, "") {
		return p.Authorize(action, "")
	}
	return p.Authorize(action, p.Account)
}

func (p Principal) may(action Action, scope string) bool {
	switch p.Role {
	case RoleAdmin:
		return action != ActionNone
	case RoleAuditor:
		return action == ActionRead || action == ActionAudit
	case RoleApprover:
		return action == ActionApprove && (len(p.Profiles) == 0 || slices.Contains(p.Profiles, scope))
	case RoleRequester:
		switch action {
		case ActionIssue:
			return scope != "" && (len(p.Profiles) == 0 || slices.Contains(p.Profiles, scope))
		case ActionRevoke, ActionRead:
			return scope != "" && scope == p.Account
		}
	}
	return false
}

// within names the scope of an action, for errors. It may be any text from a caller, and is logged and printed.
func (a Action) within(scope string) string {
	switch {
	case scope == "":
		return ""
	case a == ActionIssue || a == ActionApprove:
		return fmt.Sprintf(" under profile %.64q", scope)
	case a == ActionBlock:
		return fmt.Sprintf(" with the hash %.64q", scope)
	}
	return fmt.Sprintf(" of account %.64q", scope)
}

// HoldsKey returns the grant of a principal that has proved to hold a private key: it may end the use of this key,
// whatever its role, and nothing else. key is the hash of the public key, as text. The caller has checked the proof.
func (p Principal) HoldsKey(key string) Grant {
	if key == "" {
		return Grant{}
	}
	return Grant{principal: p, action: ActionBlock, scope: key}
}
