package rest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// sameJSON compares what a client value marshals to with what REST says.
func sameJSON(t *testing.T, what string, value any, a answer) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusOK || !reflect.DeepEqual(got, any(a.Body)) {
		t.Errorf("%s: REST says %d %s\nthe client says %s", what, a.Status, a.Text, text)
	}
}

func certificatePath(issuer pki.IssuerID, serial pki.Serial) string {
	return "/v1/certificates/" + issuer.String() + "/" + serial.String()
}

func TestIssueGetListBothDoors(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "web", Role: auth.RoleRequester, Profiles: []string{"server"}})
	c := h.grpc(token, nil)

	// Over gRPC; the profile follows from the credential.
	_, request := csr(t)
	one, err := c.Issue(t.Context(), client.IssueRequest{CSR: request, Identifiers: []string{"App.example", "ip:192.0.2.7"}, Lifetime: 24 * time.Hour, RequestID: "first"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(one.Certificate.DER)
	if err != nil {
		t.Fatal(err)
	}
	if one.Certificate.Status != client.StatusGood || one.Certificate.Account != "web" || one.Certificate.Profile != "server" || one.Certificate.Issuer != h.issuing.ID ||
		!slices.Equal(leaf.DNSNames, []string{"app.example"}) || len(one.Certificate.Identifiers) != 2 || one.Repeated {
		t.Errorf("issued %+v", one.Certificate)
	}
	chain := one.PEM
	for _, want := range [][]byte{one.Certificate.DER, h.issuing.Certificates[0].DER} {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil || !bytes.Equal(block.Bytes, want) {
			t.Fatal("the chain is not the certificate and its issuer")
		}
	}
	if len(bytes.TrimSpace(chain)) != 0 {
		t.Error("something follows in the chain: the root does not belong there")
	}

	// The same request again, over the other door, is the same certificate.
	body, err := json.Marshal(map[string]any{"csrDer": base64.StdEncoding.EncodeToString(request), "identifiers": []string{"App.example", "ip:192.0.2.7"}, "lifetime": "86400s", "requestId": "first"})
	if err != nil {
		t.Fatal(err)
	}
	again := h.rest(token, nil, http.MethodPost, "/v1/certificates", string(body))
	if certificate, _ := again.Body["certificate"].(map[string]any); again.Status != http.StatusOK || again.Body["repeated"] != true || certificate["serial"] != one.Certificate.Serial.String() {
		t.Errorf("repeated over REST: %d %s", again.Status, again.Text)
	}

	// Over REST with PEM, as a person with curl does.
	_, request = csr(t)
	body, err = json.Marshal(map[string]any{"csrPem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})), "profile": "server", "identifiers": []string{"two.example"}})
	if err != nil {
		t.Fatal(err)
	}
	two := h.rest(token, nil, http.MethodPost, "/v1/certificates", string(body))
	if two.Status != http.StatusOK {
		t.Fatalf("issue over REST: %d %s", two.Status, two.Text)
	}

	found, err := c.Certificate(t.Context(), one.Certificate.Issuer, one.Certificate.Serial)
	if err != nil || !bytes.Equal(found.PEM, one.PEM) || !bytes.Equal(found.Certificate.DER, one.Certificate.DER) {
		t.Errorf("get: %+v, %v", found, err)
	}
	sameJSON(t, "get", found, h.rest(token, nil, http.MethodGet, certificatePath(one.Certificate.Issuer, one.Certificate.Serial), ""))

	page, err := c.Certificates(t.Context(), client.CertificateFilter{}, client.Page{Size: 1})
	if err != nil || len(page.Items) != 1 || page.Next == "" {
		t.Fatalf("the first page: %+v, %v", page, err)
	}
	sameJSON(t, "list", page, h.rest(token, nil, http.MethodGet, "/v1/certificates?page_size=1", ""))
	rest, err := c.Certificates(t.Context(), client.CertificateFilter{}, client.Page{Size: 1, Token: page.Next})
	if err != nil || len(rest.Items) != 1 || rest.Items[0].Serial == page.Items[0].Serial {
		t.Errorf("the second page: %+v, %v", rest, err)
	}
	for what, filter := range map[string]client.CertificateFilter{
		"name": {Identifier: "app.example"}, "suffix": {DNSSuffix: "example"}, "serial": {Serial: one.Certificate.Serial}, "key": {KeyHash: one.Certificate.KeyHash},
		"issuer": {Issuer: h.issuing.ID}, "profile": {Profile: "server"}, "valid": {Standing: client.StandingValid}, "expiry": {ExpiresUntil: time.Now().Add(48 * time.Hour)},
	} {
		page, err := c.Certificates(t.Context(), filter, client.Page{})
		if err != nil || !slices.ContainsFunc(page.Items, func(c client.Certificate) bool { return c.Serial == one.Certificate.Serial }) {
			t.Errorf("list by %s: %+v, %v", what, page, err)
		}
	}
	for what, filter := range map[string]client.CertificateFilter{
		"name": {Identifier: "nobody.example"}, "revoked": {Standing: client.StandingRevoked}, "expired": {Standing: client.StandingExpired}, "profile": {Profile: "client"},
		"issued later": {IssuedFrom: time.Now().Add(time.Hour)},
	} {
		if page, err := c.Certificates(t.Context(), filter, client.Page{}); err != nil || len(page.Items) != 0 {
			t.Errorf("list by %s finds %+v, %v", what, page, err)
		}
	}
	count, err := c.CountCertificates(t.Context(), client.CertificateFilter{Profile: "server"})
	if err != nil || count.Count != 2 {
		t.Errorf("count: %+v, %v", count, err)
	}
	sameJSON(t, "count", count, h.rest(token, nil, http.MethodGet, "/v1/certificates:count?profile=server", ""))
	for field, query := range map[string]string{"page_size": "pageSize=1", "page_token": "pageToken=" + page.Next} {
		if a := h.rest(token, nil, http.MethodGet, "/v1/certificates:count?"+query, ""); a.Status != http.StatusBadRequest || a.Body["field"] != field {
			t.Errorf("count with %s: %d %s", query, a.Status, a.Text)
		}
	}

	// Another account sees nothing of it.
	stranger := h.grpc(h.token(auth.Spec{Name: "stranger", Role: auth.RoleRequester}), nil)
	if page, err := stranger.Certificates(t.Context(), client.CertificateFilter{}, client.Page{}); err != nil || len(page.Items) != 0 {
		t.Errorf("a stranger sees %+v, %v", page, err)
	}
	if _, err := stranger.Certificate(t.Context(), one.Certificate.Issuer, one.Certificate.Serial); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a stranger gets: %v", err)
	}
	if _, err := stranger.Certificates(t.Context(), client.CertificateFilter{Account: "web"}, client.Page{}); pki.KindOf(err) != pki.KindDenied {
		t.Errorf("a stranger asks for the account: %v", err)
	}
	if _, err := stranger.Revoke(t.Context(), client.RevokeRequest{Issuer: one.Certificate.Issuer, Serial: one.Certificate.Serial}); err == nil {
		t.Error("a stranger revoked it")
	}
}

func TestRefusedIssuance(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	_, request := csr(t)
	encoded := base64.StdEncoding.EncodeToString(request)
	for _, test := range []struct {
		what   string
		q      client.IssueRequest
		body   string
		kind   pki.Kind
		status int
		field  string
	}{
		{"an unknown profile", client.IssueRequest{CSR: request, Profile: "nothing", Identifiers: []string{"a.example"}}, `{"csrDer":"` + encoded + `","profile":"nothing","identifiers":["a.example"]}`,
			pki.KindNotFound, http.StatusNotFound, "profile"},
		{"no request at all", client.IssueRequest{CSR: []byte("hello"), Profile: "server", Identifiers: []string{"a.example"}}, `{"csrDer":"aGVsbG8=","profile":"server","identifiers":["a.example"]}`,
			pki.KindInvalid, http.StatusBadRequest, "csr"},
		{"no name", client.IssueRequest{CSR: request, Profile: "server"}, `{"csrDer":"` + encoded + `","profile":"server"}`, pki.KindRefused, http.StatusUnprocessableEntity, "identifiers"},
		{"a long life", client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{"a.example"}, Lifetime: 50 * 365 * 24 * time.Hour},
			`{"csrDer":"` + encoded + `","profile":"server","identifiers":["a.example"],"lifetime":"1576800000s"}`, pki.KindRefused, http.StatusUnprocessableEntity, "lifetime"},
		{"an unknown issuer", client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{"a.example"}, Issuer: pki.IssuerID{1}},
			`{"csrDer":"` + encoded + `","profile":"server","identifiers":["a.example"],"issuer":"01000000000000000000"}`, pki.KindNotFound, http.StatusNotFound, "issuer"},
	} {
		h.both(t, test.what, token, nil, func(c *client.Client) error { _, err := c.Issue(t.Context(), test.q); return err },
			http.MethodPost, "/v1/certificates", test.body, test.kind, test.status, test.field)
	}
}

func TestRevokeHoldRelease(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	c := h.grpc(token, nil)
	serialOf := func(pair *x509.Certificate) pki.Serial {
		serial, err := pki.SerialFromBig(pair.SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	serial := serialOf(h.pair("server", 0, "a.example").Leaf)
	lost := time.Now().Add(-time.Hour).Truncate(time.Second)
	q := client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, Reason: pki.Superseded, InvalidityAt: lost}
	first, err := c.Revoke(t.Context(), q)
	if err != nil || first.Status != client.StatusRevoked || first.Revocation.Reason != pki.Superseded || !first.Revocation.InvalidityAt.Equal(lost) || first.Sequence == 0 || first.Repeated {
		t.Fatalf("revoke: %+v, %v", first, err)
	}
	again, err := c.Revoke(t.Context(), q)
	if err != nil || !again.Repeated || again.Sequence != first.Sequence || !again.Revocation.RevokedAt.Equal(first.Revocation.RevokedAt) {
		t.Errorf("revoke twice: %+v, %v", again, err)
	}
	a := h.rest(token, nil, http.MethodPost, certificatePath(h.issuing.ID, serial)+":revoke", fmt.Sprintf(`{"reason":"REASON_SUPERSEDED","invalidityAt":%q}`, lost.UTC().Format(time.RFC3339)))
	sameJSON(t, "revoke twice", again, a)
	h.both(t, "another reason", token, nil, func(c *client.Client) error {
		_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, Reason: pki.CessationOfOperation})
		return err
	}, http.MethodPost, certificatePath(h.issuing.ID, serial)+":revoke", `{"reason":5}`, pki.KindConflict, http.StatusConflict, "")
	changed, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, Reason: pki.KeyCompromise})
	if err != nil || changed.Revocation.Reason != pki.KeyCompromise || changed.Sequence == first.Sequence {
		t.Errorf("the reason becomes key compromise: %+v, %v", changed, err)
	}
	found, err := c.Certificate(t.Context(), h.issuing.ID, serial)
	if err != nil || found.Certificate.Status != client.StatusRevoked || found.Certificate.Revocation.Reason != pki.KeyCompromise {
		t.Errorf("get after the change of reason: %v", err)
	}

	// By the certificate itself, as PEM.
	other := h.pair("server", 0, "b.example")
	text, err := json.Marshal(map[string]string{"certificatePem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate[0]})), "reason": "REASON_KEY_COMPROMISE"})
	if err != nil {
		t.Fatal(err)
	}
	if a := h.rest(token, nil, http.MethodPost, "/v1/certificates:revoke", string(text)); a.Status != http.StatusOK || a.Body["serial"] != serialOf(other.Leaf).String() || a.Body["status"] != "CERTIFICATE_STATUS_REVOKED" {
		t.Errorf("revoke by certificate: %d %s", a.Status, a.Text)
	}
	foreign := newAuthority(t, "elsewhere").leaf(t, 5, func(*x509.Certificate) {})
	if _, err := c.Revoke(t.Context(), client.RevokeRequest{Certificate: foreign.Certificate[0]}); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("revoke another authority's certificate: %v", err)
	}
	h.both(t, "a serial that was never issued", token, nil, func(c *client.Client) error {
		_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: pki.Serial{19: 1}})
		return err
	}, http.MethodPost, certificatePath(h.issuing.ID, pki.Serial{19: 1})+":revoke", `{}`, pki.KindNotFound, http.StatusNotFound, "serial")
	h.both(t, "waiting for what nobody follows", token, nil, func(c *client.Client) error {
		_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, WaitPublished: true})
		return err
	}, http.MethodPost, certificatePath(h.issuing.ID, serial)+":revoke", `{"waitFor":"WAIT_FOR_PUBLISHED"}`, pki.KindFailedPrecondition, http.StatusConflict, "wait_for")
	keyHash := pki.HashSPKI(other.Leaf.RawSubjectPublicKeyInfo)
	h.both(t, "blocking a key, and waiting for what nobody follows", token, nil, func(c *client.Client) error {
		_, err := c.BlockKey(t.Context(), client.BlockRequest{KeyHash: keyHash, Comment: "found", WaitPublished: true})
		return err
	}, http.MethodPost, "/v1/keys:block", fmt.Sprintf(`{"keyHash":%q,"comment":"found","waitFor":"WAIT_FOR_PUBLISHED"}`, keyHash), pki.KindFailedPrecondition, http.StatusConflict, "wait_for")
	if blocked, err := c.KeyIsBlocked(t.Context(), keyHash); err != nil || blocked {
		t.Errorf("the key of a call that was refused: blocked %v, %v", blocked, err)
	}

	held := serialOf(h.pair("server", 0, "c.example").Leaf)
	on, err := c.Hold(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: held})
	if err != nil || on.Status != client.StatusOnHold || on.Revocation.Reason != pki.CertificateHold {
		t.Errorf("hold: %+v, %v", on, err)
	}
	if a := h.rest(token, nil, http.MethodPost, certificatePath(h.issuing.ID, held)+":hold", `{}`); a.Status != http.StatusOK || a.Body["repeated"] != true {
		t.Errorf("hold twice: %d %s", a.Status, a.Text)
	}
	off, err := c.Release(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: held})
	if err != nil || off.Status != client.StatusGood || off.Sequence <= on.Sequence {
		t.Errorf("release: %+v, %v", off, err)
	}
	if _, err := c.Release(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: serial}); err == nil {
		t.Error("released what is revoked for good")
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Actor: "token:root"}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var changes int
	for _, e := range events {
		if e.Outcome == audit.OK && e.RequestID != "" && e.Source == "127.0.0.1" {
			changes++
		}
	}
	if changes != 5 { // revoke, reason change, revoke by certificate, hold, release
		t.Errorf("%d changes are in the audit log with request and address, want 5: %+v", changes, events)
	}
}

// TestIllegalTransitions: what the ledger refuses is refused through both doors, with the same kind, and changes
// nothing.
func TestIllegalTransitions(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	c := h.grpc(token, nil)
	lost := h.clock().Add(-time.Hour).Truncate(time.Second)
	made := func(lifetime time.Duration) pki.Serial {
		serial, err := pki.SerialFromBig(h.pair("server", lifetime, "a.example").Leaf.SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	revoked := func(serial pki.Serial, reason pki.Reason, at time.Time) pki.Serial {
		if _, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, Reason: reason, InvalidityAt: at}); err != nil {
			t.Fatal(err)
		}
		return serial
	}
	good, expired := made(0), made(time.Hour)
	superseded, compromised := revoked(made(0), pki.Superseded, time.Time{}), revoked(made(0), pki.KeyCompromise, lost)
	void, forged := made(0), good
	forged[pki.SerialSize-1] ^= 1
	claim := h.universe.Claim(revocation.Key{Issuer: h.issuing.ID, Serial: void})
	entry := revocation.Entry{Issuer: h.issuing.ID, Serial: void, Position: claim.Position, Kind: revocation.KindVoid, RevokedAt: lost, Actor: "test"}
	head, err := h.store.AppendLedger(t.Context(), 0, []revocation.NewEntry{{Entry: entry}}, nil)
	if err != nil || !claim.Dense {
		t.Fatal(claim, err)
	}
	h.later(2 * time.Hour)

	revoke := func(reason pki.Reason, at time.Time) (string, string, func(pki.Serial) error) {
		body := fmt.Sprintf(`{"reason":%d`, reason)
		if !at.IsZero() {
			body += fmt.Sprintf(`,"invalidityAt":%q`, at.UTC().Format(time.RFC3339))
		}
		return ":revoke", body + "}", func(serial pki.Serial) error {
			_, err := c.Revoke(t.Context(), client.RevokeRequest{Issuer: h.issuing.ID, Serial: serial, Reason: reason, InvalidityAt: at})
			return err
		}
	}
	hold := func(serial pki.Serial) error {
		_, err := c.Hold(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: serial})
		return err
	}
	release := func(serial pki.Serial) error {
		_, err := c.Release(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: serial})
		return err
	}
	type door struct {
		verb, body string
		call       func(pki.Serial) error
	}
	revoking := func(reason pki.Reason, at time.Time) door {
		verb, body, call := revoke(reason, at)
		return door{verb, body, call}
	}
	holding, releasing := door{":hold", "{}", hold}, door{":release", "{}", release}
	for _, test := range []struct {
		name   string
		door   door
		serial pki.Serial
		kind   pki.Kind
		status int
		field  string
	}{
		{"release what is not held", releasing, good, pki.KindFailedPrecondition, http.StatusConflict, ""},
		{"release what is revoked", releasing, superseded, pki.KindConflict, http.StatusConflict, ""},
		{"release what is void", releasing, void, pki.KindConflict, http.StatusConflict, ""},
		{"release what nobody issued", releasing, forged, pki.KindNotFound, http.StatusNotFound, "serial"},
		{"hold what expired", holding, expired, pki.KindFailedPrecondition, http.StatusConflict, ""},
		{"hold what is revoked", holding, compromised, pki.KindConflict, http.StatusConflict, ""},
		{"hold what is void", holding, void, pki.KindConflict, http.StatusConflict, ""},
		{"hold what nobody issued", holding, forged, pki.KindNotFound, http.StatusNotFound, "serial"},
		{"revoke for another reason", revoking(pki.CessationOfOperation, time.Time{}), superseded, pki.KindConflict, http.StatusConflict, ""},
		{"revoke for less", revoking(pki.Superseded, time.Time{}), compromised, pki.KindConflict, http.StatusConflict, ""},
		{"revoke with another date", revoking(pki.KeyCompromise, lost.Add(-time.Hour)), compromised, pki.KindConflict, http.StatusConflict, ""},
		{"revoke what is void", revoking(pki.KeyCompromise, time.Time{}), void, pki.KindConflict, http.StatusConflict, ""},
		{"revoke what nobody issued", revoking(pki.KeyCompromise, time.Time{}), forged, pki.KindNotFound, http.StatusNotFound, "serial"},
		{"revoke for a hold", revoking(pki.CertificateHold, time.Time{}), good, pki.KindInvalid, http.StatusBadRequest, "reason"},
		{"revoke for a removal", revoking(pki.RemoveFromCRL, time.Time{}), good, pki.KindInvalid, http.StatusBadRequest, "reason"},
	} {
		h.both(t, test.name, token, nil, func(*client.Client) error { return test.door.call(test.serial) },
			http.MethodPost, certificatePath(h.issuing.ID, test.serial)+test.door.verb, test.door.body, test.kind, test.status, test.field)
	}
	if now, err := h.store.LedgerHead(t.Context()); err != nil || now != head {
		t.Errorf("the ledger ends at %d, %v; want %d", now, err, head)
	}
}

// revokeOnly revokes, and tells no more than whether it did.
func revokeOnly(t *testing.T, c *client.Client, request client.RevokeRequest) error {
	t.Helper()
	_, err := c.Revoke(t.Context(), request)
	return err
}

// inOtherHands finds the evidence that others have the issuer's key.
func inOtherHands(e client.Evidence) bool {
	return strings.Contains(e.Statement, "that key is in other hands")
}

func TestCheck(t *testing.T) { testdb.Each(t, testCheck) }

func testCheck(t *testing.T, s store.Store) {
	h := newHouseOn(t, s)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	c := h.grpc(token, nil)
	check := func(what string, der []byte, at time.Time, want client.Verdict) *client.Check {
		t.Helper()
		got, err := c.CheckCertificate(t.Context(), der, at)
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != want || got.Summary == "" || len(got.Evidence) == 0 {
			t.Errorf("%s: %s (%s) %+v, want %s", what, got.Verdict, got.Summary, got.Evidence, want)
		}
		return got
	}
	good := h.pair("server", 48*time.Hour, "a.example")
	fine := check("a good certificate", good.Certificate[0], time.Time{}, client.VerdictInForce)
	if len(fine.Chain) != 3 || fine.Chain[1].Issuer != h.issuing.ID || fine.Chain[2].Issuer != h.root.ID || fine.Issuer != h.issuing.ID {
		t.Errorf("chain %+v", fine.Chain)
	}
	for _, e := range fine.Evidence {
		if !e.Favourable {
			t.Errorf("in force, and yet: %+v", e)
		}
	}
	check("before its start", good.Certificate[0], time.Now().Add(-24*time.Hour), client.VerdictNotYetValid)
	check("after its end", good.Certificate[0], time.Now().Add(72*time.Hour), client.VerdictExpired)
	check("the issuing authority", h.issuing.Certificates[0].DER, time.Time{}, client.VerdictInForce)
	if alone := check("the root", h.root.Certificates[0].DER, time.Time{}, client.VerdictInForce); len(alone.Chain) != 1 {
		t.Errorf("the chain of a root: %+v", alone.Chain)
	}

	elsewhere := newAuthority(t, "elsewhere")
	check("another authority's", elsewhere.leaf(t, 5, func(*x509.Certificate) {}).Certificate[0], time.Time{}, client.VerdictUnknownIssuer)
	impostor := newAuthority(t, "Test Issuing CA")
	impostor.certificate.RawSubject = h.issuing.Subject
	check("an impostor's", impostor.leaf(t, 5, func(*x509.Certificate) {}).Certificate[0], time.Time{}, client.VerdictBadSignature)
	check("a flipped bit", flipped(good.Certificate[0]), time.Time{}, client.VerdictBadSignature)

	// Made by a thief of the key: correctly signed, never issued; with a serial of its own, with that of another, and
	// with the index of that other and random octets that a thief cannot know.
	serial, err := pki.SerialFromBig(good.Leaf.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	position, ok := serial.Unmask(h.issuing.KeyHash)
	if !ok {
		t.Fatal("the serial number has no position")
	}
	parent, signer, err := h.authority.IssuerSigner(t.Context(), h.issuing.ID)
	if err != nil {
		t.Fatal(err)
	}
	var forged []byte // with a serial of its own
	for what, serial := range map[string]*big.Int{
		"any serial": big.NewInt(77), "the serial of another": good.Leaf.SerialNumber,
		"the index of another": pki.NewSerial(pki.RangeKey{}, h.issuing.KeyHash, position).Big(),
	} {
		template := &x509.Certificate{SerialNumber: serial, NotBefore: good.Leaf.NotBefore, NotAfter: good.Leaf.NotAfter, DNSNames: []string{"evil.example"}}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, newKey(t).Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		check("forged with "+what, der, time.Time{}, client.VerdictForged)
		if what == "any serial" {
			forged = der
		}
	}
	// An administrator with the certificate can revoke it; no other role can, and not by a number, which may be
	// mistyped.
	requester := h.grpc(h.token(auth.Spec{Name: "web", Role: auth.RoleRequester, Profiles: []string{"server"}}), nil)
	for what, refused := range map[string]error{
		"by a requester": revokeOnly(t, requester, client.RevokeRequest{Certificate: forged, Reason: pki.KeyCompromise}),
		"by its number":  revokeOnly(t, c, client.RevokeRequest{Issuer: h.issuing.ID, Serial: pki.Serial{19: 77}, Reason: pki.KeyCompromise}),
	} {
		if pki.KindOf(refused) != pki.KindNotFound {
			t.Errorf("a forged certificate, revoked %s: %v", what, refused)
		}
	}
	for _, repeated := range []bool{false, true} { // it is said each time
		change, err := c.Revoke(t.Context(), client.RevokeRequest{Certificate: forged, Reason: pki.KeyCompromise})
		if err != nil || change.Repeated != repeated || !change.IssuedElsewhere {
			t.Errorf("a forged certificate, revoked: %+v, %v", change, err)
		}
	}
	after := check("forged and revoked", forged, time.Time{}, client.VerdictRevoked)
	if after.Revocation == nil || after.Revocation.Reason != pki.KeyCompromise || !slices.ContainsFunc(after.Evidence, inOtherHands) {
		t.Errorf("forged and revoked: %+v", after)
	}

	if _, err := c.Hold(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: serial}); err != nil {
		t.Fatal(err)
	}
	check("on hold", good.Certificate[0], time.Time{}, client.VerdictOnHold)
	if change, err := c.Revoke(t.Context(), client.RevokeRequest{Certificate: good.Certificate[0], Reason: pki.KeyCompromise}); err != nil || change.IssuedElsewhere {
		t.Fatal(change, err)
	}
	revoked := check("revoked", good.Certificate[0], time.Time{}, client.VerdictRevoked)
	if revoked.Revocation == nil || revoked.Revocation.Reason != pki.KeyCompromise || revoked.Status != client.StatusRevoked || slices.ContainsFunc(revoked.Evidence, inOtherHands) {
		t.Errorf("revoked: %+v", revoked)
	}
	check("revoked and expired", good.Certificate[0], time.Now().Add(72*time.Hour), client.VerdictRevoked)
	text, err := json.Marshal(map[string]string{"certificatePem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate[0]})), "at": "2026-01-01T00:00:00Z"})
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, "2026-01-01T00:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "check", check("revoked", good.Certificate[0], at, client.VerdictRevoked), h.rest(token, nil, http.MethodPost, "/v1/certificates:check", string(text)))

	// When an authority above is suspended or revoked, what is below it is in force no more; a root is its own issuer.
	leaf := h.pair("server", 0, "b.example")
	own, err := x509.ParseCertificate(h.root.Certificates[0].DER)
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.SerialFromBig(own.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Hold(t.Context(), client.HoldRequest{Issuer: h.root.ID, Serial: root}); err != nil {
		t.Fatal(err)
	}
	check("below a root on hold", leaf.Certificate[0], time.Time{}, client.VerdictOnHold)
	check("the authority below a root on hold", h.issuing.Certificates[0].DER, time.Time{}, client.VerdictOnHold)
	if _, err := c.Release(t.Context(), client.HoldRequest{Issuer: h.root.ID, Serial: root}); err != nil {
		t.Fatal(err)
	}
	check("below a root that was released", leaf.Certificate[0], time.Time{}, client.VerdictInForce)
	if _, err := c.Revoke(t.Context(), client.RevokeRequest{Certificate: h.issuing.Certificates[0].DER, Reason: pki.CACompromise}); err != nil {
		t.Fatal(err)
	}
	check("below a revoked authority", leaf.Certificate[0], time.Time{}, client.VerdictRevoked)
}

// flipped changes the last bit of the signature.
func flipped(der []byte) []byte {
	der = slices.Clone(der)
	der[len(der)-1] ^= 1
	return der
}
