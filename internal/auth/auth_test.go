package auth_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// TestRoles is the whole table: what each role may do, in its own scope, in another's and in every scope.
func TestRoles(t *testing.T) {
	actions := map[auth.Action]string{auth.ActionNone: "none", auth.ActionIssue: "issue", auth.ActionRevoke: "revoke", auth.ActionRead: "read", auth.ActionAudit: "audit",
		auth.ActionManage: "manage", auth.ActionBlock: "block", auth.ActionApprove: "approve", auth.ActionApprove + 1: "unheard-of"}
	principal := func(role auth.Role, profiles ...string) auth.Principal {
		return auth.Principal{ID: "token:x", Account: "own", Role: role, Profiles: profiles}
	}
	for name, test := range map[string]struct {
		principal auth.Principal
		may       string // action/scope, * for every scope; the scopes tried are "", own, other, server, client
	}{
		"zero":              {auth.Principal{}, ""},
		"a role unheard of": {principal(auth.RoleApprover + 1), ""},
		"auditor":           {principal(auth.RoleAuditor), "read/* audit/*"},
		"auditor, limited":  {principal(auth.RoleAuditor, "server"), "read/* audit/*"},
		"approver":          {principal(auth.RoleApprover), "approve/*"},
		"approver, limited": {principal(auth.RoleApprover, "server"), "approve/server"},
		"requester":         {principal(auth.RoleRequester), "issue/own issue/other issue/server issue/client revoke/own read/own"},
		"requester, limited": {principal(auth.RoleRequester, "server", "own"),
			"issue/server issue/own revoke/own read/own"},
		"renewal": {auth.Renewal("issuer/serial", "own", "server"), "issue/server revoke/own read/own"},
		"admin":   {principal(auth.RoleAdmin), "issue/* revoke/* read/* audit/* manage/* block/* approve/* unheard-of/*"},
		"system":  {auth.System("x"), "issue/* revoke/* read/* audit/* manage/* block/* approve/* unheard-of/*"},
	} {
		for action, called := range actions {
			for _, scope := range []string{"", "own", "other", "server", "client"} {
				want := action != auth.ActionNone && (strings.Contains(test.may, called+"/*") || scope != "" && strings.Contains(test.may, called+"/"+scope))
				grant, err := test.principal.Authorize(action, scope)
				if got := err == nil; got != want || got != grant.Allows(action, scope) || got && scope == "" != grant.All() {
					t.Errorf("%s, %s (%d) in scope %q: %v, allowed %t, every scope %t; want %t", name, action, action, scope, err, grant.Allows(action, scope), grant.All(), want)
				}
				if err != nil && pki.KindOf(err) != pki.KindDenied {
					t.Errorf("%s: %v is no denial", name, err)
				}
				for other := range actions {
					if other != action && grant.Allows(other, scope) {
						t.Errorf("%s: a grant to %s allows to %s", name, action, other)
					}
				}
				if scope != "" && grant.Allows(action, "") || scope != "" && grant.Allows(action, scope+"x") {
					t.Errorf("%s: a grant for %q covers more", name, scope)
				}
			}
		}
	}
	if (auth.Grant{}).Allows(auth.ActionNone, "") || (auth.Grant{}).All() {
		t.Error("the zero grant allows something")
	}
}

func TestDenials(t *testing.T) {
	limited := auth.Principal{ID: "token:ci", Account: "ci", Role: auth.RoleRequester, Profiles: []string{"team-b"}}
	for _, test := range []struct {
		action      auth.Action
		scope, want string
	}{
		{auth.ActionManage, "", "token:ci may not administer the server (issuers, profiles, credentials, mass revocations): its role is requester"},
		{auth.ActionAudit, "", "token:ci may not read the audit log: its role is requester"},
		{auth.ActionRevoke, "aud", `token:ci may not revoke certificates of account "aud": its role is requester`},
		{auth.ActionApprove, "server", `token:ci may not decide requests under profile "server": its role is requester`},
		{auth.ActionBlock, "hash", `token:ci may not block keys with the hash "hash": its role is requester`},
		{auth.ActionIssue, "server", `token:ci may issue certificates under the profile team-b only, not under profile "server"`},
	} {
		if _, err := limited.Authorize(test.action, test.scope); err == nil || err.Error() != "authorize: "+test.want {
			t.Errorf("%s: %v", test.want, err)
		}
	}
}

func TestGrantsOfSeveralScopes(t *testing.T) {
	limited := auth.Principal{ID: "token:x", Account: "own", Role: auth.RoleApprover, Profiles: []string{"server", "code"}}
	grant, err := limited.AuthorizeProfiles(auth.ActionApprove)
	if err != nil || !slices.Equal(grant.Scopes(), limited.Profiles) || grant.All() || !grant.Allows(auth.ActionApprove, "code") || grant.Allows(auth.ActionApprove, "client") || grant.Allows(auth.ActionApprove, "") {
		t.Errorf("limited to two profiles: %+v, %v", grant, err)
	}
	if _, err := limited.AuthorizeProfiles(auth.ActionManage); pki.KindOf(err) != pki.KindDenied {
		t.Errorf("what the role does not allow: %v", err)
	}
	limited.Profiles = nil
	if grant, err := limited.AuthorizeProfiles(auth.ActionApprove); err != nil || !grant.All() {
		t.Errorf("not limited: %+v, %v", grant, err)
	}
	for role, all := range map[auth.Role]bool{auth.RoleAuditor: true, auth.RoleRequester: false} {
		p := auth.Principal{ID: "token:x", Account: "own", Role: role}
		if grant, err := p.AuthorizeOwn(auth.ActionRead); err != nil || grant.All() != all || !grant.Allows(auth.ActionRead, "own") || grant.Allows(auth.ActionRead, "other") != all {
			t.Errorf("%s reads %+v, %v", role, grant, err)
		}
	}
	holder := auth.Principal{ID: "token:x", Role: auth.RoleAuditor}
	if g := holder.HoldsKey("hash"); !g.Allows(auth.ActionBlock, "hash") || g.Allows(auth.ActionBlock, "other") || g.Allows(auth.ActionBlock, "") || g.Allows(auth.ActionManage, "hash") || g.All() {
		t.Errorf("a key that was proved gives %+v", g)
	}
	if g := holder.HoldsKey(""); g.Allows(auth.ActionBlock, "") {
		t.Error("no key at all gives a grant")
	}
}

func TestParseRole(t *testing.T) {
	for _, role := range []auth.Role{auth.RoleAuditor, auth.RoleRequester, auth.RoleAdmin, auth.RoleApprover} {
		if got, err := auth.ParseRole(role.String()); err != nil || got != role {
			t.Errorf("%s: %v, %v", role, got, err)
		}
	}
	for _, text := range []string{"none", "", "Admin", "root", strconv.Itoa(3)} {
		if got, err := auth.ParseRole(text); pki.KindOf(err) != pki.KindInvalid || got != auth.RoleNone {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
