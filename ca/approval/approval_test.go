package approval_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var (
	admin = auth.Principal{ID: "token:admin", Account: "admin", Role: auth.RoleAdmin}
	web   = auth.Principal{ID: "token:web", Account: "web", Role: auth.RoleRequester}
	boss  = auth.Principal{ID: "token:boss", Account: "boss", Role: auth.RoleApprover, Profiles: []string{"guarded"}}
)

const guarded = `name: guarded
lifetime: 30d
names: {min: 1, dns: {allow: [".example.com"]}}
key_usage: [digital_signature]
extended_key_usage: [server_auth]
`

// keyring keeps keys in memory: stretching a passphrase is slow, and no process of these tests starts again.
type keyring struct {
	mu   sync.Mutex
	kept map[string]*keys.Key
	gone bool
}

func (k *keyring) URI(name string) string { return "memory:" + name }

func (k *keyring) Create(_ context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	signer, err := keys.Generate(algorithm)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[k.URI(name)] = &keys.Key{Signer: signer, URI: k.URI(name), Secret: pki.SerialSecret{1, byte(len(k.kept))}}
	return k.kept[k.URI(name)], nil
}

func (k *keyring) Open(_ context.Context, uri string) (*keys.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.kept[uri]; key != nil && !k.gone {
		return key, nil
	}
	return nil, pki.Errorf(pki.KindNotFound, "open key", "there is none").InField("key")
}

// office is an issuing CA with a profile that needs an approval.
type office struct {
	t        *testing.T
	store    *storetest.Faulty
	keys     *keyring
	dir      string // of profiles
	profiles *profile.Set
	universe *revocation.Universe
	*ca.Authority
	*approval.Desk
}

// set changes what an issuer does.
func (o *office) set(issuer pki.IssuerID, state ca.IssuerState) {
	o.t.Helper()
	if _, err := o.SetIssuerState(o.t.Context(), grantOf(o.t, admin, auth.ActionManage), issuer, state); err != nil {
		o.t.Fatal(err)
	}
}

// create makes an issuing authority below the root.
func (o *office) create(label string, permitted ...string) pki.IssuerID {
	o.t.Helper()
	n := ca.NewIssuer{Label: label, Subject: ca.Subject{CommonName: label}, BaseURL: "http://pki.test", Parent: o.Issuers()[0].ID}
	n.Permitted.DNS = permitted
	made, err := o.CreateIssuer(o.t.Context(), grantOf(o.t, admin, auth.ActionManage), n)
	if err != nil {
		o.t.Fatal(err)
	}
	return made.ID
}

func newOffice(t *testing.T, s store.Store, change ...func(*approval.Config)) *office {
	t.Helper()
	o := &office{t: t, store: &storetest.Faulty{Store: s}, keys: &keyring{kept: make(map[string]*keys.Key)}, dir: t.TempDir()}
	o.write("approval: required\n")
	var err error
	if o.profiles, err = profile.Open(o.dir); err != nil {
		t.Fatal(err)
	}
	if o.universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s}); err != nil {
		t.Fatal(err)
	}
	if err := o.universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"web", "chief"} { // who files requests here
		c := auth.Credential{Name: name, Kind: auth.KindToken, Role: auth.RoleRequester, Account: name, Digest: auth.Digest{1, byte(i)}, CreatedBy: "token:admin"}
		if err := s.CreateCredential(t.Context(), c, audit.Event{Actor: "token:admin", Action: "credential.create", Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
	}
	o.Authority, o.Desk = o.instance(s, change...)
	var parent pki.IssuerID
	for _, label := range []string{"root", "issuing"} {
		issuer, err := o.CreateIssuer(t.Context(), grantOf(t, admin, auth.ActionManage), ca.NewIssuer{Label: label, Subject: ca.Subject{CommonName: label}, BaseURL: "http://pki.test", Parent: parent})
		if err != nil {
			t.Fatal(err)
		}
		parent = issuer.ID
	}
	if err := o.universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) write(more string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, "guarded.yaml"), []byte(guarded+more), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// instance is another process on the same database.
func (o *office) instance(s store.Store, change ...func(*approval.Config)) (*ca.Authority, *approval.Desk) {
	o.t.Helper()
	a, err := ca.New(o.t.Context(), ca.Config{Profiles: o.profiles, Keys: o.keys, Issuers: s, Ranges: s, Certificates: o.store, Inventory: s, Audit: s, Status: o.universe})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = a.Close(context.Background()) }) // a database that a test closed does not matter here
	config := approval.Config{Authority: a, Store: s, Archive: s, Credentials: s, Audit: s}
	for _, c := range change {
		c(&config)
	}
	d, err := approval.New(config)
	if err != nil {
		o.t.Fatal(err)
	}
	return a, d
}

func grantOf(t *testing.T, p auth.Principal, action auth.Action) auth.Grant {
	t.Helper()
	grant, err := p.AuthorizeProfiles(action)
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

func issueGrant(t *testing.T, p auth.Principal) auth.Grant {
	t.Helper()
	grant, err := p.Authorize(auth.ActionIssue, "guarded")
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

func request(t *testing.T, name string) ca.Request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Request{Profile: "guarded", CSR: der}
}

func (o *office) ask(r ca.Request) *approval.Application {
	o.t.Helper()
	answer, err := o.Desk.Issue(o.t.Context(), issueGrant(o.t, web), r)
	if err != nil || answer.Issued != nil || answer.Filed == nil {
		o.t.Fatalf("%+v, %v: want it filed", answer, err)
	}
	return answer.Filed
}

func (o *office) certificates() int64 {
	o.t.Helper()
	n, err := o.store.CountCertificates(o.t.Context(), inventory.Filter{Profile: "guarded"})
	if err != nil {
		o.t.Fatal(err)
	}
	return n.N
}

// actions are what the audit log says of requests and certificates.
func (o *office) actions() []string {
	o.t.Helper()
	events, err := o.store.AuditEvents(o.t.Context(), audit.Filter{}, 0, 1000)
	if err != nil {
		o.t.Fatal(err)
	}
	var actions []string
	for _, e := range events {
		if strings.HasPrefix(e.Action, "request.") || e.Action == "certificate.issue" {
			actions = append(actions, e.Action+" "+string(e.Outcome)+" "+e.Actor)
		}
	}
	return actions
}

func wantKind(t *testing.T, what string, err error, kind pki.Kind, field string) {
	t.Helper()
	if err == nil || pki.KindOf(err) != kind {
		t.Errorf("%s: %v, want an error of kind %s", what, err, kind)
		return
	}
	e, _ := errors.AsType[*pki.Error](err)
	if e.Field != field || e.Hint == "" {
		t.Errorf("%s: field %q, hint %q; want field %q and something to do next", what, e.Field, e.Hint, field)
	}
}

func TestFiledApprovedAndCollected(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		r := request(t, "a.example.com")
		r.RequestID = "order-1"
		filed := o.ask(r)
		if filed.State != approval.Pending || filed.Requester.ID != web.ID || filed.Trial.Names[0].Value != "a.example.com" || o.certificates() != 0 {
			t.Errorf("filed as %+v", filed)
		}
		if again := o.ask(r); again.ID != filed.ID {
			t.Errorf("the same request id was filed twice: %s and %s", again.ID, filed.ID)
		}
		answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "ticket 7")
		if err != nil || answer.Issued == nil || answer.Filed.State != approval.Issued || answer.Filed.DecidedBy != boss.ID || answer.Delay != nil {
			t.Fatalf("%+v, %v", answer, err)
		}
		if answer.Issued.Account != "web" || answer.Issued.Profile != "guarded" {
			t.Errorf("issued %+v", answer.Issued.Certificate)
		}
		read, err := web.AuthorizeOwn(auth.ActionRead)
		if err != nil {
			t.Fatal(err)
		}
		collected, err := o.Desk.Get(t.Context(), read, filed.ID)
		if err != nil || !bytes.Equal(collected.Issued.DER, answer.Issued.DER) || len(collected.Issued.Chain) != 1 {
			t.Errorf("collected %+v, %v", collected, err)
		}
		repeated, err := o.Desk.Issue(t.Context(), issueGrant(t, web), r)
		if err != nil || repeated.Issued == nil || !repeated.Issued.Repeated || !bytes.Equal(repeated.Issued.DER, answer.Issued.DER) {
			t.Errorf("the request again: %+v, %v", repeated, err)
		}
		if again, err := o.Approve(t.Context(), grantOf(t, admin, auth.ActionApprove), filed.ID, ""); err != nil || again.Filed.DecidedBy != boss.ID || o.certificates() != 1 {
			t.Errorf("approved again: %+v, %v, %d certificates", again.Filed, err, o.certificates())
		}
		other := request(t, "b.example.com")
		other.RequestID = "order-1"
		_, err = o.Desk.Issue(t.Context(), issueGrant(t, web), other)
		wantKind(t, "the request id for another request", err, pki.KindConflict, "request_id")
		want := []string{"request.file ok token:web", "request.approve ok token:boss", "certificate.issue ok token:web", "certificate.issue refused token:web"}
		if got := o.actions(); !slices.Equal(got[len(got)-4:], want) {
			t.Errorf("the audit log says %q, want %q", got, want)
		}
	})
}

// What a version that knows more filed is not issued here without it, and is in nobody's way: it is listed, and may be denied.
func TestFiledWithAnotherVersion(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		strange, known := o.ask(request(t, "a.example.com")), o.ask(request(t, "b.example.com"))
		asked, err := strange.Asked()
		if err != nil {
			t.Fatal(err)
		}
		testdb.Exec(t, s, `UPDATE approvals SET asked = $1 WHERE id = $2`, strings.Replace(asked, `{"Profile":`, `{"Color":"red","Profile":`, 1), strange.ID[:])
		if page, err := o.Desk.List(t.Context(), grantOf(t, boss, auth.ActionApprove), approval.Filter{}, "", 10); err != nil || len(page.Applications) != 2 {
			t.Errorf("listed: %d, %v", len(page.Applications), err)
		}
		_, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), strange.ID, "")
		wantKind(t, "what this version cannot read", err, pki.KindUnavailable, "")
		if answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), known.ID, ""); err != nil || answer.Issued == nil {
			t.Errorf("the other: %+v, %v", answer, err)
		}
		if denied, err := o.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), strange.ID, "no"); err != nil || denied.State != approval.Denied || denied.Request.Profile != "guarded" {
			t.Errorf("denied: %+v, %v", denied, err)
		}
	})
}

// What is not in order is refused at once, and nobody has to read it.
func TestRefusedBeforeItIsFiled(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t))
	grant := issueGrant(t, web)
	bad := request(t, "a.example.com")
	bad.CSR = append([]byte{}, bad.CSR...)
	bad.CSR[len(bad.CSR)-1] ^= 1
	wrongName, tooLong := request(t, "a.example.org"), request(t, "a.example.com")
	tooLong.Lifetime = 4000 * 24 * time.Hour
	for what, r := range map[string]ca.Request{"forged signature": bad, "wrong name": wrongName, "too long": tooLong} {
		if answer, err := o.Desk.Issue(t.Context(), grant, r); err == nil {
			t.Errorf("%s: %+v", what, answer)
		}
	}
	if answer, err := o.Desk.Issue(t.Context(), auth.Grant{}, request(t, "a.example.com")); pki.KindOf(err) != pki.KindDenied || err == nil {
		t.Errorf("with the zero grant: %+v, %v", answer, err)
	}
	page, err := o.Desk.List(t.Context(), grantOf(t, admin, auth.ActionApprove), approval.Filter{}, "", 0)
	if err != nil || len(page.Applications) != 0 {
		t.Errorf("filed %+v, %v", page, err)
	}
	if got := o.actions(); len(got) != 6 { // two are the issuers
		t.Errorf("the audit log says %q", got)
	}
	// The ca itself issues nothing under such a profile, whoever asks.
	_, err = o.Authority.Issue(t.Context(), grant, request(t, "a.example.com"))
	wantKind(t, "past the desk", err, pki.KindFailedPrecondition, "profile")
	_, err = o.IssueApproved(t.Context(), grant, ca.Approved{Request: request(t, "a.example.com")})
	if pki.KindOf(err) != pki.KindDenied || err == nil {
		t.Errorf("without an approval: %v", err)
	}
	_, err = o.IssueApproved(t.Context(), grant, ca.Approved{Request: request(t, "a.example.com"), ID: ca.ApprovalID{1}})
	wantKind(t, "with an approval that nobody gave", err, pki.KindConflict, "request")
	if o.certificates() != 0 {
		t.Errorf("%d certificates were issued", o.certificates())
	}
}

func TestFourEyes(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t))
	mine := auth.Principal{ID: "token:chief", Account: "chief", Role: auth.RoleAdmin}
	answer, err := o.Desk.Issue(t.Context(), issueGrant(t, mine), request(t, "a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	id := answer.Filed.ID
	second := auth.Principal{ID: "token:chief-2", Account: "chief", Role: auth.RoleAdmin}
	elsewhere := auth.Principal{ID: "token:other", Account: "other", Role: auth.RoleApprover, Profiles: []string{"server"}}
	requester := web
	requester.Account = "chief" // reads it, and no more
	read, err := requester.AuthorizeOwn(auth.ActionRead)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		grant auth.Grant
		kind  pki.Kind
	}{
		"the requester":                 {grantOf(t, mine, auth.ActionApprove), pki.KindDenied},
		"another token of its account":  {grantOf(t, second, auth.ActionApprove), pki.KindDenied},
		"the requester, elsewhere now":  {grantOf(t, auth.Principal{ID: mine.ID, Account: "elsewhere", Role: auth.RoleAdmin}, auth.ActionApprove), pki.KindDenied},
		"a grant to read":               {read, pki.KindDenied},
		"an auditor":                    {grantOf(t, auth.Principal{ID: "token:auditor", Account: "auditor", Role: auth.RoleAuditor}, auth.ActionRead), pki.KindDenied},
		"an approver of other profiles": {grantOf(t, elsewhere, auth.ActionApprove), pki.KindNotFound},
		"a grant of another action":     {grantOf(t, admin, auth.ActionManage), pki.KindNotFound},
		"the zero grant":                {auth.Grant{}, pki.KindNotFound},
	} {
		_, err := o.Approve(t.Context(), c.grant, id, "")
		wantKind(t, what+" approves", err, c.kind, "request")
		_, err = o.Deny(t.Context(), c.grant, id, "no")
		wantKind(t, what+" denies", err, c.kind, "request")
	}
	if a, err := o.store.Application(t.Context(), id); err != nil || a.State != approval.Pending {
		t.Errorf("it is %s, %v", a.State, err)
	}
	refused := 0
	for _, action := range o.actions() {
		if strings.HasPrefix(action, "request.decide refused") {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d refusals in the audit log, want those of the first five: %q", refused, o.actions())
	}
	for role, may := range map[auth.Role]bool{auth.RoleAdmin: true, auth.RoleApprover: true, auth.RoleAuditor: false, auth.RoleRequester: false, auth.RoleNone: false} {
		if _, err := (auth.Principal{ID: "x", Account: "y", Role: role}).AuthorizeProfiles(auth.ActionApprove); (err == nil) != may {
			t.Errorf("role %s: %v", role, err)
		}
	}
	for _, action := range []auth.Action{auth.ActionIssue, auth.ActionRevoke, auth.ActionRead, auth.ActionAudit, auth.ActionManage} {
		if _, err := boss.Authorize(action, "guarded"); err == nil {
			t.Errorf("an approver may %s", action)
		}
	}
}

func TestDenied(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t))
	r := request(t, "a.example.com")
	r.RequestID = "order-2"
	filed := o.ask(r)
	_, err := o.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "")
	wantKind(t, "without a reason", err, pki.KindInvalid, "reason")
	_, err = o.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, strings.Repeat("x", 1001))
	wantKind(t, "with a long reason", err, pki.KindInvalid, "reason")
	denied, err := o.Deny(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "not this month")
	if err != nil || denied.State != approval.Denied || denied.Comment != "not this month" {
		t.Fatalf("%+v, %v", denied, err)
	}
	_, err = o.Approve(t.Context(), grantOf(t, admin, auth.ActionApprove), filed.ID, "")
	wantKind(t, "approved after it was denied", err, pki.KindFailedPrecondition, "request")
	_, err = o.Desk.Issue(t.Context(), issueGrant(t, web), r)
	wantKind(t, "asked again", err, pki.KindRefused, "request_id")
	if err == nil || !strings.Contains(err.Error(), "not this month") {
		t.Errorf("%v: want the reason", err)
	}
	if o.certificates() != 0 {
		t.Error("a certificate was issued")
	}
}

// However many approve, on however many instances, there is one certificate.
func TestApprovedByManyAtOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		_, second := o.instance(s)
		desks := []*approval.Desk{o.Desk, second}
		for round := range 4 {
			filed := o.ask(request(t, fmt.Sprintf("n%d.example.com", round)))
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					p := auth.Principal{ID: fmt.Sprint("token:chief", i), Account: fmt.Sprint("chief", i), Role: auth.RoleApprover}
					_, err := desks[i%2].Approve(t.Context(), grantOf(t, p, auth.ActionApprove), filed.ID, "")
					if err != nil && pki.KindOf(err) != pki.KindFailedPrecondition {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := o.certificates(); n != int64(round+1) {
				t.Fatalf("%d certificates for %d approvals", n, round+1)
			}
		}
		if n := o.entries(); n != 0 {
			t.Errorf("%d indices became void", n)
		}
	})
}

// entries counts what is in the ledger: here, indices that were signed and are void.
func (o *office) entries() int {
	o.t.Helper()
	n := 0
	for _, err := range o.store.LedgerLoad(o.t.Context(), 0, 1<<62) {
		if err != nil {
			o.t.Fatal(err)
		}
		n++
	}
	return n
}

func (o *office) decide(id ca.ApprovalID, claim time.Duration) {
	o.t.Helper()
	_, err := o.store.Decide(o.t.Context(), approval.Decision{ID: id, From: approval.Pending, To: approval.Approved, By: boss.ID, Expires: time.Hour, Claim: claim,
		Event: audit.Event{Actor: boss.ID, Action: "request.approve", Outcome: audit.OK}})
	if err != nil {
		o.t.Fatal(err)
	}
}

// An instance that dies between the approval and the issue is followed by another, when its claim has passed.
func TestApprovedAndNotIssued(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s)
		_, other := o.instance(s)
		dead, alive := o.ask(request(t, "a.example.com")), o.ask(request(t, "b.example.com"))
		o.decide(dead.ID, -time.Second)
		o.decide(alive.ID, time.Minute) // somebody is at it
		var wg sync.WaitGroup
		for _, d := range []*approval.Desk{o.Desk, other, o.Desk, other} {
			wg.Go(func() {
				if err := d.IssueClaimed(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		a, err := s.Application(t.Context(), dead.ID)
		if err != nil || a.State != approval.Issued || o.certificates() != 1 {
			t.Errorf("%s, %v, %d certificates", a.State, err, o.certificates())
		}
		if a, err := s.Application(t.Context(), alive.ID); err != nil || a.State != approval.Approved {
			t.Errorf("the other is %s, %v", a.State, err)
		}
		if n := o.entries(); n != 0 {
			t.Errorf("%d indices became void", n)
		}
	})
}

// Recording fails, and fails though it happened: in both cases there is one certificate in the end, and the approver is told.
func TestRecordingFailsAfterTheApproval(t *testing.T) {
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			testdb.Each(t, func(t *testing.T, s store.Store) {
				o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
				filed := o.ask(request(t, "a.example.com"))
				o.store.Fail("Record", fault)
				answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "")
				if err != nil || o.store.Pending() {
					t.Fatalf("%+v, %v", answer, err)
				}
				if fault == storetest.FailBefore && (answer.Filed.State != approval.Approved || answer.Delay == nil || answer.Issued != nil) {
					t.Errorf("%s, delay %v", answer.Filed.State, answer.Delay)
				}
				if fault == storetest.FailAfter && (answer.Filed.State != approval.Issued || answer.Issued == nil) {
					t.Errorf("%s, delay %v", answer.Filed.State, answer.Delay)
				}
				for range 2 {
					if err := o.IssueClaimed(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if a, err := s.Application(t.Context(), filed.ID); err != nil || a.State != approval.Issued || o.certificates() != 1 {
					t.Errorf("%s, %v, %d certificates", a.State, err, o.certificates())
				}
			})
		})
	}
}

// Everything is asked again of the day of the issue.
func TestApprovedAndAgainstARuleByNow(t *testing.T) {
	for what, spoil := range map[string]func(o *office, r ca.Request){
		"the profile takes other names": func(o *office, _ ca.Request) {
			text := strings.Replace(guarded, ".example.com", ".example.net", 1)
			if err := os.WriteFile(filepath.Join(o.dir, "guarded.yaml"), []byte(text+"approval: required\n"), 0o600); err != nil {
				o.t.Fatal(err)
			}
			if err := o.profiles.Reload(); err != nil {
				o.t.Fatal(err)
			}
		},
		"the profile is for others": func(o *office, _ ca.Request) {
			o.write("approval: required\naccess: {accounts: [mail]}\n")
			if err := o.profiles.Reload(); err != nil {
				o.t.Fatal(err)
			}
		},
		"the profile is gone": func(o *office, _ ca.Request) {
			if err := os.Remove(filepath.Join(o.dir, "guarded.yaml")); err != nil {
				o.t.Fatal(err)
			}
			if err := o.profiles.Reload(); err != nil {
				o.t.Fatal(err)
			}
		},
		"the key was blocked": func(o *office, r ca.Request) {
			csr, err := x509.ParseCertificateRequest(r.CSR)
			if err != nil {
				o.t.Fatal(err)
			}
			hash, err := pki.HashPublicKey(csr.PublicKey)
			if err != nil {
				o.t.Fatal(err)
			}
			block := revocation.KeyBlock{SPKI: hash, Material: pki.HashKeyMaterial(csr.PublicKey)}
			if _, _, err := o.store.BlockKey(o.t.Context(), block, revocation.Job{ID: revocation.JobID{1}, Principal: admin}, time.Now(), 100, 0); err != nil {
				o.t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := newOffice(t, testdb.SQLite(t))
			r := request(t, "a.example.com")
			filed := o.ask(r)
			spoil(o, r)
			answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "fine")
			if err != nil || answer.Issued != nil || answer.Filed.State != approval.Refused || answer.Filed.Comment == "" || answer.Filed.Comment == "fine" || answer.Filed.DecidedBy != boss.ID {
				t.Errorf("%+v, %v", answer.Filed, err)
			}
			if err := o.IssueClaimed(t.Context()); err != nil {
				t.Error(err)
			}
			if o.certificates() != 0 {
				t.Error("a certificate was issued")
			}
			if got := o.actions(); got[len(got)-1] != "request.refuse ok system:approval" || got[len(got)-2] != "certificate.issue refused token:web" {
				t.Errorf("the audit log says %q", got)
			}
		})
	}
}

// A key that is not at this instance is at another: the request stays approved.
func TestApprovedWhereTheKeyIsNot(t *testing.T) {
	s := testdb.SQLite(t)
	o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
	filed := o.ask(request(t, "a.example.com"))
	elsewhere := &keyring{gone: true}
	a, err := ca.New(t.Context(), ca.Config{Profiles: o.profiles, Keys: elsewhere, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s})
	if err != nil {
		t.Fatal(err)
	}
	d, err := approval.New(approval.Config{Authority: a, Store: s, Archive: s, Credentials: s, Audit: s, Claim: time.Nanosecond, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := d.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "")
	if err != nil || answer.Filed.State != approval.Approved || answer.Delay == nil {
		t.Fatalf("%+v, %v", answer, err)
	}
	if !strings.Contains(answer.Filed.Delay, ca.ErrKeyElsewhere.Error()) || answer.Filed.NextTry.After(time.Now().Add(time.Minute)) {
		t.Errorf("delayed by %q until %s: another instance has the key", answer.Filed.Delay, answer.Filed.NextTry)
	}
	if err := o.IssueClaimed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := o.certificates(); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// What names no issuer, because there was one when it was filed, waits for that one where no other could be chosen, and is not refused because there
// are more by now; until that one is retired.
func TestApprovedWhereThereIsAChoiceByNow(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		issuing := o.Issuers()[1].ID
		set := func(state ca.IssuerState) { t.Helper(); o.set(issuing, state) }
		approve := func(id ca.ApprovalID) approval.Answer {
			t.Helper()
			answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), id, "")
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		var filed []ca.ApprovalID
		for range 4 {
			a := o.ask(request(t, "a.example.com"))
			if a.Trial.Issuer != issuing {
				t.Fatalf("filed for %s", a.Trial.Issuer)
			}
			filed = append(filed, a.ID)
		}
		set(ca.IssuerDisabled)
		for i, others := range []func(){func() { o.create("plant", "plant.example") }, func() { o.create("b"); o.create("c") }} {
			others()
			answer := approve(filed[i])
			wantKind(t, "its issuer is disabled", answer.Delay, pki.KindFailedPrecondition, "issuer")
			if answer.Filed.State != approval.Approved {
				t.Errorf("it is %s", answer.Filed.State)
			}
		}
		set(ca.IssuerActive)
		if answer := approve(filed[2]); answer.Issued == nil || answer.Issued.Issuer != issuing {
			t.Errorf("three could sign: %+v, %v; want it from the one that it was filed for", answer, answer.Delay)
		}
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := s.CountCertificates(t.Context(), inventory.Filter{Profile: "guarded", Issuer: issuing}); err != nil || n.N != 3 {
			t.Errorf("enabled again: %d certificates are from it, %v", n.N, err)
		}
		set(ca.IssuerRetired)
		if answer := approve(filed[3]); answer.Filed.State != approval.Refused || !strings.Contains(answer.Filed.Comment, "more than one issuer could sign this") {
			t.Errorf("its issuer is retired: %+v; want it refused, with the reason", answer.Filed)
		}
	})
}

// What was filed for the only issuing CA is refused once that one is retired, and waits while there is another that may issue again.
func TestApprovedOfTheOnlyIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		waits, last := o.ask(request(t, "a.example.com")).ID, o.ask(request(t, "a.example.com")).ID
		issuing := o.Issuers()[1].ID
		other := o.create("other")
		o.set(issuing, ca.IssuerRetired)
		o.set(other, ca.IssuerDisabled)
		answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), waits, "")
		if err != nil || answer.Filed.State != approval.Approved {
			t.Errorf("another may issue again: %+v, %v; want it approved", answer.Filed, err)
		}
		o.set(other, ca.IssuerRetired)
		answer, err = o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), last, "")
		if err != nil || answer.Filed.State != approval.Refused || !strings.Contains(answer.Filed.Comment, "issuer issuing is retired") {
			t.Errorf("nobody may: %+v, %v; want it refused, with the reason", answer.Filed, err)
		}
	})
}

// What was approved waits while the profile names an issuer that is retired: the profile may be changed, or have been at another instance.
func TestApprovedUnderAProfileThatNamesARetiredIssuer(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		named := func(label string) {
			t.Helper()
			o.write("approval: required\nissuer: " + label + "\n")
			if err := o.profiles.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		named("issuing")
		filed := o.ask(request(t, "a.example.com")).ID
		manage, issuers := grantOf(t, admin, auth.ActionManage), o.Issuers()
		next, err := o.CreateIssuer(t.Context(), manage, ca.NewIssuer{Label: "next", Subject: ca.Subject{CommonName: "Next"}, BaseURL: "http://pki.test", Parent: issuers[0].ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.SetIssuerState(t.Context(), manage, issuers[1].ID, ca.IssuerRetired); err != nil {
			t.Fatal(err)
		}
		answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed, "")
		if err != nil || answer.Filed.State != approval.Approved {
			t.Fatalf("%+v, %v; want it approved", answer.Filed, err)
		}
		wantKind(t, "its profile names a retired issuer", answer.Delay, pki.KindFailedPrecondition, "profile")
		named("next")
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := s.CountCertificates(t.Context(), inventory.Filter{Profile: "guarded", Issuer: next.ID}); err != nil || n.N != 1 {
			t.Errorf("the profile names another: %d certificates are from that, %v; it is %s", n.N, err, o.state(filed))
		}
	})
}

// A renewal that was approved waits for its issuer, where nobody else can be told to take over, until that one is retired.
func TestApprovedWhileItsIssuerIsDisabled(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause = time.Nanosecond, time.Nanosecond })
		approve := func(id ca.ApprovalID) approval.Answer {
			t.Helper()
			answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), id, "")
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		old := approve(o.ask(request(t, "a.example.com")).ID).Issued.Certificate
		renew := func() ca.ApprovalID {
			t.Helper()
			p := auth.Renewal(old.Issuer.String()+"/"+old.Serial.String(), old.Account, old.Profile)
			r, err := o.Renewal(t.Context(), issueGrant(t, p), old, request(t, "a.example.com").CSR, "")
			if err != nil {
				t.Fatal(err)
			}
			answer, err := o.Desk.Issue(t.Context(), issueGrant(t, p), r)
			if err != nil || answer.Filed == nil || answer.Filed.Trial.Issuer != old.Issuer {
				t.Fatalf("%+v, %v: want it filed", answer, err)
			}
			return answer.Filed.ID
		}
		set := func(state ca.IssuerState) { t.Helper(); o.set(old.Issuer, state) }
		waits := []ca.ApprovalID{renew(), renew()}
		for i, others := range []func(){func() { o.create("plant", "plant.example") }, func() { o.create("b"); o.create("c") }} {
			others()
			set(ca.IssuerDisabled)
			answer := approve(waits[i])
			wantKind(t, "its issuer is disabled", answer.Delay, pki.KindFailedPrecondition, "issuer")
			if answer.Filed.State != approval.Approved {
				t.Errorf("it is %s", answer.Filed.State)
			}
		}
		set(ca.IssuerActive)
		late := renew()
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		for _, id := range waits {
			if o.state(id) != approval.Issued {
				t.Errorf("enabled again: it is %s", o.state(id))
			}
		}
		if n, err := s.CountCertificates(t.Context(), inventory.Filter{Profile: "guarded", Issuer: old.Issuer}); err != nil || n.N != 3 {
			t.Errorf("%d certificates are from their issuer, %v", n.N, err)
		}
		set(ca.IssuerDisabled)
		if answer := approve(late); answer.Filed.State != approval.Approved {
			t.Errorf("its issuer is disabled: it is %s", answer.Filed.State)
		}
		set(ca.IssuerRetired)
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Error(err)
		}
		if a, err := o.store.Application(t.Context(), late); err != nil || a.State != approval.Refused || !strings.Contains(a.Comment, "issuer issuing is retired") {
			t.Errorf("its issuer is retired: %+v, %v; want it refused, with the reason", a, err)
		}
	})
}

// An attempt a minute that comes to the same is one event in the audit log; another failure is another, also one that was met before.
func TestWhatWaitsIsInTheAuditLogOnce(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		now := time.Now()
		o := newOffice(t, s, func(c *approval.Config) {
			c.Claim, c.Pause, c.Now = time.Nanosecond, time.Nanosecond, func() time.Time { return now }
		})
		issuing := o.Issuers()[1].ID
		set := func(state ca.IssuerState) { t.Helper(); o.set(issuing, state) }
		attempts := func(what string, n, want int) {
			t.Helper()
			count := func() (n int) {
				for _, action := range o.actions() {
					if strings.HasPrefix(action, "certificate.issue refused") || strings.HasPrefix(action, "certificate.issue failed") {
						n++
					}
				}
				return n
			}
			before := count()
			for range n {
				if err := o.IssueClaimed(t.Context()); err == nil {
					t.Errorf("%s: issued", what)
				}
			}
			if got := count() - before; got != want {
				t.Errorf("%s: %d events of %d attempts, want %d", what, got, n, want)
			}
		}
		filed := []ca.ApprovalID{o.ask(request(t, "a.example.com")).ID, o.ask(request(t, "b.example.com")).ID}
		set(ca.IssuerDisabled)
		for _, id := range filed {
			if answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), id, ""); err != nil || answer.Delay == nil {
				t.Fatalf("%+v, %v", answer, err)
			}
		}
		attempts("as when they were approved", 5, 0)
		plant := o.create("plant", "plant.example")
		attempts("another cannot either", 5, 2)
		o.set(plant, ca.IssuerDisabled)
		attempts("as in the beginning", 5, 2)
		now = now.Add(6 * 24 * time.Hour)
		if err := o.Desk.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		attempts("six days later", 5, 0)
		now = now.Add(2 * 24 * time.Hour)
		if err := o.Desk.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		attempts("forgotten, a day after it would have expired", 5, 2)
		set(ca.IssuerActive)
		if err := o.IssueClaimed(t.Context()); err != nil || o.certificates() != 2 {
			t.Errorf("enabled again: %d certificates, %v", o.certificates(), err)
		}
	})
}

// What cannot be issued says why and when it is tried again: after twice the pause before, within bounds, as long as nothing changes.
func TestWhatWaitsIsTriedLessAndLess(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		o := newOffice(t, s, func(c *approval.Config) {
			c.Claim, c.Pause, c.Now = time.Hour, 5*time.Hour, func() time.Time { return time.Now().Add(24 * time.Hour) }
		})
		filed := o.ask(request(t, "a.example.com")).ID
		issuing := o.Issuers()[1].ID
		o.set(issuing, ca.IssuerDisabled)
		since := time.Now()
		const none = "no issuing CA is active"
		waits := func(what, why string, pause time.Duration) {
			t.Helper()
			a, err := s.Application(t.Context(), filed)
			if after, before := since.Add(pause-time.Hour/2), time.Now().Add(pause+time.Hour/2); err != nil || a.State != approval.Approved || !strings.Contains(a.Delay, why) || a.Pause != pause || a.NextTry.Before(after) || a.NextTry.After(before) {
				t.Errorf("%s: %s because of %q, %s later, at %s (%v); want it between %s and %s", what, a.State, a.Delay, a.Pause, a.NextTry, err, after, before)
			}
			if err := o.IssueClaimed(t.Context()); err != nil {
				t.Errorf("%s: it was tried again at once: %v", what, err)
			}
		}
		later := func() {
			t.Helper()
			testdb.Exec(t, s, `UPDATE approvals SET claimed_until = filed_at`)
			since = time.Now()
			if err := o.IssueClaimed(t.Context()); err == nil {
				t.Error("it was not tried again")
			}
		}
		if answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed, ""); err != nil || answer.Delay == nil {
			t.Fatalf("%+v, %v", answer, err)
		}
		waits("when it was approved, and decided long ago by its clock", none, time.Hour)
		for _, pause := range []time.Duration{2 * time.Hour, 4 * time.Hour, 5 * time.Hour, 5 * time.Hour} {
			later()
			waits("as before", none, pause)
		}
		plant := o.create("plant", "plant.example")
		later()
		waits("another cannot issue it either", "CN=plant does not permit", time.Hour)
		o.set(plant, ca.IssuerDisabled)
		if err := o.IssueClaimed(t.Context()); err != nil {
			t.Errorf("it was tried because an issuer was disabled: %v", err)
		}
		o.set(plant, ca.IssuerActive)
		since = time.Now()
		if err := o.IssueClaimed(t.Context()); err == nil {
			t.Error("it was not tried when an issuer became active")
		}
		waits("one that cannot issue it is active again", "CN=plant does not permit", time.Hour)
		o.set(issuing, ca.IssuerActive)
		if err := o.IssueClaimed(t.Context()); err != nil || o.certificates() != 1 {
			t.Errorf("its issuer is active again: %d certificates, %v", o.certificates(), err)
		}
	})
}

// activating has an issuer become active once an attempt has failed, before that is kept.
type activating struct {
	approval.Store
	activate func() // nil: nothing becomes active
}

func (a *activating) Postpone(ctx context.Context, tried *approval.Application, delay string, pause time.Duration) error {
	if a.activate != nil {
		a.activate()
	}
	return a.Store.Postpone(ctx, tried, delay, pause)
}

// An attempt that began before its issuer became active does not have it wait.
func TestItsIssuerBecomesActiveWhileItIsTried(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		between := &activating{Store: s}
		o := newOffice(t, s, func(c *approval.Config) { c.Claim, c.Pause, c.Store = time.Hour, 5*time.Hour, between })
		filed := o.ask(request(t, "a.example.com")).ID
		issuing := o.Issuers()[1].ID
		o.set(issuing, ca.IssuerDisabled)
		if answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed, ""); err != nil || answer.Delay == nil {
			t.Fatalf("%+v, %v", answer, err)
		}
		testdb.Exec(t, s, `UPDATE approvals SET claimed_until = filed_at`)
		between.activate = func() { o.set(issuing, ca.IssuerActive) }
		if err := o.IssueClaimed(t.Context()); err == nil {
			t.Error("it was issued before its issuer was active")
		}
		if err := o.IssueClaimed(t.Context()); err != nil || o.certificates() != 1 {
			t.Errorf("its issuer is active: %d certificates, %v", o.certificates(), err)
		}
	})
}

// What does not answer is for the operators, and tried again soon.
func TestTheRequesterDoesNotReadWhatBroke(t *testing.T) {
	s := testdb.SQLite(t)
	now := time.Now()
	o := newOffice(t, s, func(c *approval.Config) {
		c.Claim, c.Now = time.Nanosecond, func() time.Time { return now.Add(24 * time.Hour) }
	})
	filed := o.ask(request(t, "a.example.com"))
	o.store.Fail("Record", storetest.FailBefore)
	answer, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "")
	if err != nil || pki.KindOf(answer.Delay) != pki.KindUnavailable {
		t.Fatalf("%+v, %v", answer, err)
	}
	if a := answer.Filed; !strings.HasPrefix(a.Delay, "something in the server broke or does not answer") || strings.Contains(a.Delay, answer.Delay.Error()) || a.NextTry.After(time.Now().Add(time.Minute)) {
		t.Errorf("delayed by %q until %s: %v", a.Delay, a.NextTry, answer.Delay)
	}
}

func TestExpired(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t), func(c *approval.Config) { c.Expires, c.Keep = time.Nanosecond, time.Nanosecond })
	r := request(t, "a.example.com")
	r.RequestID = "order-3"
	filed := o.ask(r)
	_, err := o.Approve(t.Context(), grantOf(t, boss, auth.ActionApprove), filed.ID, "")
	wantKind(t, "approved too late", err, pki.KindFailedPrecondition, "request")
	_, err = o.Desk.Issue(t.Context(), issueGrant(t, web), r)
	wantKind(t, "asked again", err, pki.KindFailedPrecondition, "request_id")
	if err := o.Desk.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := o.ask(r); again.ID == filed.ID {
		t.Error("what was forgotten is remembered")
	}
}

func TestListedPageByPage(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t), func(c *approval.Config) { c.PerAccount = 5 })
	var filed []ca.ApprovalID
	for i := range 5 {
		filed = append(filed, o.ask(request(t, fmt.Sprintf("n%d.example.com", i))).ID)
		time.Sleep(2 * time.Millisecond) // ids sort by the millisecond
	}
	slices.Reverse(filed)
	_, err := o.Desk.Issue(t.Context(), issueGrant(t, web), request(t, "n9.example.com"))
	wantKind(t, "one too many", err, pki.KindExhausted, "")
	own, err := web.AuthorizeOwn(auth.ActionRead)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		grant  auth.Grant
		filter approval.Filter
	}{
		"the account":             {own, approval.Filter{Account: "web"}},
		"an approver":             {grantOf(t, boss, auth.ActionApprove), approval.Filter{}},
		"an approver, by profile": {grantOf(t, boss, auth.ActionApprove), approval.Filter{Profiles: []string{"guarded"}, State: approval.Pending}},
		"an administrator":        {grantOf(t, admin, auth.ActionApprove), approval.Filter{}},
	} {
		var got []ca.ApprovalID
		for token := ""; ; {
			page, err := o.Desk.List(t.Context(), c.grant, c.filter, token, 2)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, a := range page.Applications {
				got = append(got, a.ID)
			}
			if token = page.Next; token == "" {
				break
			}
		}
		if !slices.Equal(got, filed) {
			t.Errorf("%s sees %v, want %v", what, got, filed)
		}
	}
	for what, c := range map[string]struct {
		grant  auth.Grant
		filter approval.Filter
	}{
		"every account":       {own, approval.Filter{}},
		"another account":     {own, approval.Filter{Account: "mail"}},
		"another profile":     {grantOf(t, boss, auth.ActionApprove), approval.Filter{Profiles: []string{"guarded", "server"}}},
		"with the zero grant": {auth.Grant{}, approval.Filter{}},
		"with another action": {grantOf(t, admin, auth.ActionManage), approval.Filter{}},
	} {
		_, err := o.Desk.List(t.Context(), c.grant, c.filter, "", 0)
		wantKind(t, what, err, pki.KindDenied, "")
	}
	_, err = o.Desk.List(t.Context(), own, approval.Filter{Account: "web"}, "", 1001)
	wantKind(t, "a page that is too long", err, pki.KindInvalid, "limit")
	_, err = o.Desk.List(t.Context(), own, approval.Filter{Account: "web"}, "x", 0)
	wantKind(t, "a page token that is none", err, pki.KindInvalid, "page_token")
}

// A profile that needs no approval any more, or none yet, does not lead to a second certificate for one request id.
func TestTheProfileChangesInBetween(t *testing.T) {
	o := newOffice(t, testdb.SQLite(t))
	reload := func(more string) {
		t.Helper()
		o.write(more)
		if err := o.profiles.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	r := request(t, "a.example.com")
	r.RequestID = "order-4"
	o.ask(r)
	reload("")
	_, err := o.Desk.Issue(t.Context(), issueGrant(t, web), r)
	wantKind(t, "asked again when no approval is needed", err, pki.KindConflict, "request_id")
	other := request(t, "b.example.com")
	other.RequestID = "order-5"
	issued, err := o.Desk.Issue(t.Context(), issueGrant(t, web), other)
	if err != nil || issued.Issued == nil {
		t.Fatalf("%+v, %v", issued, err)
	}
	reload("approval: required\n")
	again, err := o.Desk.Issue(t.Context(), issueGrant(t, web), other)
	if err != nil || again.Issued == nil || again.Issued.Serial != issued.Issued.Serial || !again.Issued.Repeated || o.certificates() != 1 {
		t.Errorf("%+v, %v", again, err)
	}
}
