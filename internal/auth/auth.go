// Package auth turns a credential into a Principal and a Principal into a Grant. A Grant is the proof that privileged
// verbs demand; it can be made here only, and its zero value allows nothing.
package auth

import (
	"fmt"
	"slices"
	"strings"

	"signet.example/signet/pki"
)

// Role is what a credential was made for. Zero is no role and is denied everything.
type Role uint8

// The roles.
const (
	RoleNone      Role = iota
	RoleAuditor        // reads everything, the audit log included; changes nothing
	RoleRequester      // issues under its profiles; reads and revokes what its account was issued
	RoleAdmin          // everything
	RoleApprover       // reads requests that need an approval, and decides them; issues and revokes nothing
)

var roleNames = [...]string{"none", "auditor", "requester", "admin", "approver"}

// String is the lower-case name.
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

// Principal is who makes a call, as its credential proved. It is made by Authenticator, Renewal and System.
type Principal struct {
	ID        string   // "token:…", "certificate:…", "renewal:…" or "system:…"; goes into audit events
	Account   string   // what certificates it requests are filed under
	Role      Role     //
	Profiles  []string // the only profiles it may issue under, or approve; empty means every profile that allows its role
	Source    string   // network address
	RequestID string   // of this call

	// Certificate, "issuer/serial", is the client certificate that proved the credential, or whose renewal it is; empty: neither.
	Certificate string
}

// System is the principal of Signet itself: reconciliation, responder certificates, schedules.
func System(component string) Principal {
	return Principal{ID: "system:" + component, Account: "system", Role: RoleAdmin}
}

// IsSystem reports whether Signet itself acts.
func (p Principal) IsSystem() bool { return strings.HasPrefix(p.ID, "system:") }

// Renewal is the principal of whoever proved to hold the private key of a certificate: it may have it renewed under its
// profile, for its account, and nothing else. certificate is "issuer/serial". The caller of Renewal has checked the proof,
// and that the certificate is recorded, valid and not revoked.
func Renewal(certificate, account, profile string) Principal {
	return Principal{ID: "renewal:" + certificate, Account: account, Role: RoleRequester, Profiles: []string{profile}, Certificate: certificate}
}

// Credential is the name of the credential that a principal proved; ok is false for those that have none: renewals and Signet
// itself.
func (p Principal) Credential() (name string, ok bool) {
	kind, name, _ := strings.Cut(p.ID, ":")
	return name, kind == tokenKind || kind == certificateKind
}

// What the id of a principal with a credential begins with.
const tokenKind, certificateKind = "token", "certificate"

// Action is a privileged verb. Zero is none.
type Action uint8

// The actions.
const (
	ActionNone    Action = iota
	ActionIssue          // scope: profile name
	ActionRevoke         // scope: account that the certificate belongs to
	ActionRead           // scope: account whose certificates are read; "" means all
	ActionAudit          // read the audit log
	ActionManage         // issuers, profiles, credentials, jobs, key blocks
	ActionBlock          // scope: hash of a public key; block it. Administrators have ActionManage for that
	ActionApprove        // scope: profile name; read and decide the requests that wait for an approval
)

var actionNames = [...]string{"nothing", "issue", "revoke", "read", "audit", "manage", "block keys", "approve"}

// String is the lower-case verb.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "nothing"
}

// Grant proves that a principal may do one action within one scope.
type Grant struct {
	principal Principal
	action    Action
	scope     string
	scopes    []string // instead of one
	any       bool
}

// Principal returns who was granted; the zero Principal for the zero Grant.
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

// Scopes are what the grant is limited to; none if it is for one scope, or for every one.
func (g Grant) Scopes() []string { return g.scopes }

// AuthorizeProfiles gives the grant for an action on profiles: those that the principal is limited to, or else every one.
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

// Authorize gives the grant for an action within a scope, or an error of KindDenied. Scope "" asks for every scope.
func (p Principal) Authorize(action Action, scope string) (Grant, error) {
	g := Grant{principal: p, action: action, scope: scope, any: scope == ""}
	if p.may(action, scope) {
		return g, nil
	}
	if len(p.Profiles) > 0 && (Principal{Role: p.Role}).may(action, scope) { // the list of profiles is what is in the way
		return Grant{}, pki.Errorf(pki.KindDenied, "authorize", "%s may %s within %s only, not%s", p.ID, action, strings.Join(p.Profiles, ", "), within(scope)).
			WithHint("name one of these profiles")
	}
	return Grant{}, pki.Errorf(pki.KindDenied, "authorize", "role %s of %s does not allow to %s%s", p.Role, p.ID, action, within(scope)).
		WithHint("ask an administrator for a credential with another role")
}

// AuthorizeOwn is Authorize for what an account owns: administrators (and for reading, auditors) get every scope,
// requesters their own account.
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

func within(scope string) string {
	if scope == "" {
		return ""
	}
	return fmt.Sprintf(" within %.64q", scope) // anything that a caller sent; it is logged, and printed
}

// HoldsKey is the grant of whoever has proved to hold a private key: it may end the use of this key, whatever the role of
// its credential, and nothing else. key is the hash of its public key, as text; the caller has checked the proof.
func (p Principal) HoldsKey(key string) Grant {
	if key == "" {
		return Grant{}
	}
	return Grant{principal: p, action: ActionBlock, scope: key}
}
