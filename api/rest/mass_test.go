package rest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

func TestBatch(t *testing.T) { testdb.Each(t, testBatch) }

func testBatch(t *testing.T, s store.Store) {
	h := newHouseOn(t, s)
	token := h.token(auth.Spec{Name: "fleet", Role: auth.RoleRequester, Profiles: []string{"server"}})
	const items, bad = 150, 7
	_, request := csr(t)
	item := func(i int) client.IssueRequest {
		q := client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{fmt.Sprintf("n%d.example", i)}, RequestID: fmt.Sprintf("item-%d", i)}
		if i == bad {
			q.Identifiers = []string{"dns:not a name"}
		}
		return q
	}
	batch, err := h.grpc(token, nil).IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	go func() {
		for i := range items {
			if err := batch.Send(item(i)); err != nil {
				t.Error(err)
			}
		}
		if err := batch.EndOfItems(); err != nil {
			t.Error(err)
		}
	}()
	serials := map[string]pki.Serial{}
	for {
		result, err := batch.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if result.RequestID == fmt.Sprintf("item-%d", bad) {
			if pki.KindOf(result.Err) != pki.KindInvalid || fieldOf(result.Err) != "identifiers[0]" {
				t.Errorf("the bad item: %v", result.Err)
			}
			continue
		}
		if result.Err != nil {
			t.Errorf("%s: %v", result.RequestID, result.Err)
			continue
		}
		serials[result.RequestID] = result.Issued.Certificate.Serial
	}
	if len(serials) != items-1 {
		t.Errorf("%d of %d items were issued", len(serials), items-1)
	}

	// The same lines over REST: the ids are known, so it is the same certificates.
	var lines strings.Builder
	for i := range items {
		fmt.Fprintf(&lines, "{\"csrDer\":%q,\"profile\":\"server\",\"identifiers\":[%q],\"requestId\":\"item-%d\"}\n", base64.StdEncoding.EncodeToString(request), fmt.Sprintf("n%d.example", i), i)
	}
	lines.WriteString("not JSON\n\n{\"requestId\":\"item-x\",\"profil\":\"server\"}\n{\"csrDer\":\"AQ==\",\"profile\":\"server\"}")
	a := h.rest(token, nil, http.MethodPost, "/v1/certificates:issue", lines.String())
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/x-ndjson" || a.Header.Get("X-Request-Id") == "" {
		t.Fatalf("%d %v %s", a.Status, a.Header, a.Text)
	}
	var issued, problems int
	for line := range strings.Lines(a.Text) {
		var result struct {
			RequestID string `json:"requestId"`
			Issued    struct {
				Repeated    bool
				Certificate struct{ Serial string }
			}
			Problem struct{ Kind, Message, Field string }
		}
		if err := json.Unmarshal([]byte(line), &result); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case result.Problem.Kind != "":
			problems++
			if result.Problem.Kind != "invalid" || result.Problem.Message == "" {
				t.Errorf("problem %s", line)
			}
			if result.RequestID == "" && !strings.Contains(line, "line ") && result.Problem.Field != "request_id" {
				t.Errorf("nobody can tell which item this is: %s", line)
			}
		case result.RequestID == fmt.Sprintf("item-%d", bad):
			issued++ // refused over gRPC, so its id was free
		default:
			issued++
			if !result.Issued.Repeated || result.Issued.Certificate.Serial != serials[result.RequestID].String() {
				t.Errorf("%s is %s, and was %s", result.RequestID, line, serials[result.RequestID])
			}
		}
	}
	if issued != items || problems != 3 {
		t.Errorf("%d issued and %d problems, want %d and 3", issued, problems, items)
	}
}

// A credential that ends while its stream goes on ends the stream.
func TestBatchOutlivesCredential(t *testing.T) {
	h := newHouse(t)
	batch, err := h.grpc(h.token(auth.Spec{Name: "fleet", Role: auth.RoleRequester, Profiles: []string{"server"}}), nil).IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	_, request := csr(t)
	if err := batch.Send(client.IssueRequest{CSR: request, Identifiers: []string{"a.example"}, RequestID: "1"}); err != nil {
		t.Fatal(err)
	}
	if result, err := batch.Receive(); err != nil || result.Err != nil {
		t.Fatal(err, result.Err)
	}
	if _, err := h.credentials.Disable(t.Context(), h.admin, "fleet"); err != nil {
		t.Fatal(err)
	}
	if err := batch.Send(client.IssueRequest{CSR: request, Identifiers: []string{"b.example"}, RequestID: "2"}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if result, err := batch.Receive(); pki.KindOf(err) != pki.KindUnauthenticated || err == nil {
		t.Errorf("issued with a disabled credential: %+v, %v", result, err)
	}
}

// A stream whose client is silent gives its place to others, over both doors.
func TestIdleBatchEnds(t *testing.T) {
	h := newHouse(t, func(c *rpc.Config) { c.Streams, c.Idle = 1, 3*time.Second })
	token := h.token(auth.Spec{Name: "fleet", Role: auth.RoleRequester, Profiles: []string{"server"}})
	api := h.grpc(token, nil)
	_, request := csr(t)
	batch, err := api.IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	if err := batch.Send(client.IssueRequest{CSR: request, Identifiers: []string{"a.example"}, RequestID: "1"}); err != nil {
		t.Fatal(err)
	}
	if result, err := batch.Receive(); err != nil || result.Err != nil {
		t.Fatal(err, result.Err)
	}
	if _, err := batch.Receive(); pki.KindOf(err) != pki.KindExhausted || err == nil || !strings.Contains(err.Error(), "sent nothing") {
		t.Errorf("over gRPC: %v", err)
	}

	body, silent := io.Pipe()
	defer silent.Close()
	call, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+h.address+"/v1/certificates:issue", body)
	if err != nil {
		t.Fatal(err)
	}
	call.Header.Set("Authorization", "Bearer "+token)
	call.Header.Set("Content-Type", "application/x-ndjson")
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}, ForceAttemptHTTP2: h2}
		answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(call)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		transport.CloseIdleConnections()
		if err != nil || !strings.Contains(string(text), "sent nothing") {
			t.Errorf("over REST, HTTP/2 %t: %s %s, %v", h2, answer.Status, text, err)
		}
	}
	again, err := api.IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestBatchWithoutCredential(t *testing.T) {
	h := newHouse(t)
	batch, err := h.grpc("", nil).IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	if _, err := batch.Receive(); pki.KindOf(err) != pki.KindUnauthenticated {
		t.Errorf("over gRPC: %v", err)
	}
	a := h.rest("", nil, http.MethodPost, "/v1/certificates:issue", "{}\n")
	if a.Status != http.StatusUnauthorized || a.Body["kind"] != "unauthenticated" {
		t.Errorf("over REST: %d %s", a.Status, a.Text)
	}
}

func TestJobs(t *testing.T) {
	// Twenty thousand serials take a busy machine one.
	h := newHouse(t, func(c *rpc.Config) { c.Timeout = 3 * time.Minute })
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	c := h.grpc(token, nil)
	for i := range 5 {
		h.pair("server", 0, fmt.Sprintf("s%d.example", i))
	}
	other := h.pair("client", 0, "c.example")

	plan, err := c.PlanJob(t.Context(), client.JobRequest{Selector: client.Selector{Where: "profile=server"}, Reason: pki.CessationOfOperation, Comment: "moving away"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Job.State != client.JobPlanned || plan.Job.Selected != 5 || len(plan.Shards) != 1 || plan.Shards[0].Entries != 5 || plan.CRLGrowth == 0 || plan.Job.Comment != "moving away" {
		t.Errorf("plan %+v", plan)
	}
	stored, err := c.Job(t.Context(), plan.Job.ID)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "get job", stored, h.rest(token, nil, http.MethodGet, "/v1/jobs/"+plan.Job.ID, ""))
	if a := h.rest(token, nil, http.MethodPost, "/v1/jobs/"+plan.Job.ID+":start", "{}"); a.Status != http.StatusOK {
		t.Fatalf("start: %d %s", a.Status, a.Text)
	}
	job := plan.Job
	for deadline := time.Now().Add(20 * time.Second); !job.State.Ended() && time.Now().Before(deadline); {
		found, err := c.Job(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		job = *found
	}
	if job.State != client.JobDone || job.Revoked != 5 || job.Sequence == 0 || job.Actor != "token:root" {
		t.Errorf("the job ended as %+v", job)
	}
	if page, err := c.Certificates(t.Context(), client.CertificateFilter{Standing: client.StandingRevoked}, client.Page{}); err != nil || len(page.Items) != 5 {
		t.Errorf("revoked: %d, %v", len(page.Items), err)
	}
	if found, err := c.CheckCertificate(t.Context(), other.Certificate[0], time.Time{}); err != nil || found.Verdict != client.VerdictInForce {
		t.Errorf("what was not selected: %+v, %v", found, err)
	}
	if jobs, err := c.Jobs(t.Context(), client.JobFilter{}, client.Page{}); err != nil || len(jobs.Items) != 1 || jobs.Items[0].ID != job.ID || jobs.Next != "" {
		t.Errorf("jobs: %+v, %v", jobs, err)
	}

	second, err := c.PlanJob(t.Context(), client.JobRequest{Selector: client.Selector{Profile: "client"}})
	if err != nil || second.Job.Selected != 1 {
		t.Fatalf("%+v, %v", second, err)
	}
	first, err := c.Jobs(t.Context(), client.JobFilter{}, client.Page{Size: 1})
	if err != nil || len(first.Items) != 1 || first.Items[0].ID != second.Job.ID || first.Next == "" {
		t.Fatalf("first page of jobs: %+v, %v", first, err)
	}
	if rest, err := c.Jobs(t.Context(), client.JobFilter{}, client.Page{Size: 1, Token: first.Next}); err != nil || len(rest.Items) != 1 || rest.Items[0].ID != job.ID {
		t.Errorf("second page of jobs: %+v, %v", rest, err)
	}
	ran := client.JobFilter{Started: true}
	if started, err := c.Jobs(t.Context(), ran, client.Page{Size: 1}); err != nil || len(started.Items) != 1 || started.Items[0].ID != job.ID || started.Next == "" {
		t.Errorf("jobs that were started: %+v, %v", started, err)
	} else if rest, err := c.Jobs(t.Context(), ran, client.Page{Size: 1, Token: started.Next}); err != nil || len(rest.Items) != 0 {
		t.Errorf("behind them: %+v, %v", rest, err)
	}
	h.both(t, "a page token that is none", token, nil, func(c *client.Client) error { _, err := c.Jobs(t.Context(), ran, client.Page{Token: "x"}); return err },
		http.MethodGet, "/v1/jobs?page_token=x", "", pki.KindInvalid, http.StatusBadRequest, "page_token")
	cancelled, err := c.CancelJob(t.Context(), second.Job.ID)
	if err != nil || cancelled.State != client.JobCancelled {
		t.Errorf("cancel: %+v, %v", cancelled, err)
	}
	h.both(t, "starting a cancelled job", token, nil, func(c *client.Client) error { _, err := c.StartJob(t.Context(), second.Job.ID, 0); return err },
		http.MethodPost, "/v1/jobs/"+second.Job.ID+":start", "{}", pki.KindConflict, http.StatusConflict, "")

	// Issuers are named by label or id, and with those below them; what ends an authority must be meant.
	end := time.Now().AddDate(2, 0, 0)
	for _, test := range []struct {
		selector              client.Selector
		selected, authorities uint64
	}{
		{client.Selector{Where: "issuer=root and profile=issuing-ca"}, 1, 1},
		{client.Selector{Where: "under=issuing and profile=client"}, 1, 0},
		{client.Selector{Where: "under=root"}, 6, 0},
		{client.Selector{Where: "issuer=root"}, 0, 0},
		{client.Selector{Under: h.root.ID, ExpiresUntil: end}, 6, 0},
		{client.Selector{Under: h.root.ID, ExpiresFrom: end}, 0, 0},
		{client.Selector{Under: h.issuing.ID, Profile: "server"}, 5, 0},
		{client.Selector{Under: h.root.ID, Profile: "issuing-ca"}, 1, 1},
	} {
		plan, err := c.PlanJob(t.Context(), client.JobRequest{Selector: test.selector})
		if err != nil || plan.Job.Selected != test.selected || plan.Job.Authorities != test.authorities {
			t.Fatalf("%+v: %+v, %v", test.selector, plan, err)
		}
		if plan.Job.Authorities > 0 {
			h.both(t, "an authority that is not meant", token, nil, func(c *client.Client) error { _, err := c.StartJob(t.Context(), plan.Job.ID, 0); return err },
				http.MethodPost, "/v1/jobs/"+plan.Job.ID+":start", "{}", pki.KindFailedPrecondition, http.StatusConflict, "confirmed_authorities")
			h.both(t, "another number of authorities", token, nil, func(c *client.Client) error { _, err := c.StartJob(t.Context(), plan.Job.ID, 2); return err },
				http.MethodPost, "/v1/jobs/"+plan.Job.ID+":start", `{"confirmedAuthorities":"2"}`, pki.KindFailedPrecondition, http.StatusConflict, "confirmed_authorities")
		}
	}

	requester := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
	for _, test := range []struct {
		what, token string
		q           client.JobRequest
		body        string
		kind        pki.Kind
		status      int
		field       string
	}{
		{"a requester", requester, client.JobRequest{Selector: client.Selector{Everything: true}}, `{"selector":{"everything":true}}`, pki.KindDenied, http.StatusForbidden, ""},
		{"no condition", token, client.JobRequest{}, `{"selector":{}}`, pki.KindInvalid, http.StatusBadRequest, "selector"},
		{"bad text", token, client.JobRequest{Selector: client.Selector{Where: "profile"}}, `{"selector":{"where":"profile"}}`, pki.KindInvalid, http.StatusBadRequest, "where"},
		{"text and more", token, client.JobRequest{Selector: client.Selector{Where: "profile=a", Account: "b"}}, `{"selector":{"where":"profile=a","account":"b"}}`, pki.KindInvalid, http.StatusBadRequest, "selector.where"},
		{"an issuer that is not there", token, client.JobRequest{Selector: client.Selector{Where: "under=nobody"}}, `{"selector":{"where":"under=nobody"}}`, pki.KindInvalid, http.StatusBadRequest, "where"},
		{"an issuer of another id", token, client.JobRequest{Selector: client.Selector{Under: pki.IssuerID{1}}}, fmt.Sprintf(`{"selector":{"under":%q}}`, pki.IssuerID{1}), pki.KindInvalid, http.StatusBadRequest, "selector.under"},
		{"a bad name", token, client.JobRequest{Selector: client.Selector{Identifiers: []string{"a", "b c"}}}, `{"selector":{"identifiers":["a","b c"]}}`, pki.KindInvalid, http.StatusBadRequest, "selector.identifiers[1]"},
		{"a hold", token, client.JobRequest{Selector: client.Selector{Profile: "a"}, Reason: pki.CertificateHold}, `{"selector":{"profile":"a"},"reason":6}`, pki.KindInvalid, http.StatusBadRequest, "reason"},
		{"a certificate of an issuer that is not there", token, client.JobRequest{Selector: client.Selector{Certificates: []client.CertificateName{{Issuer: pki.IssuerID{1}, Serial: pki.Serial{19: 1}}}}},
			fmt.Sprintf(`{"selector":{"certificates":[{"issuer":%q,"serial":"01"}]}}`, pki.IssuerID{1}), pki.KindNotFound, http.StatusNotFound, "issuer"},
	} {
		h.both(t, test.what, test.token, nil, func(c *client.Client) error { _, err := c.PlanJob(t.Context(), test.q); return err }, http.MethodPost, "/v1/jobs", test.body, test.kind, test.status, test.field)
	}
	h.both(t, "a job that is not there", token, nil, func(c *client.Client) error { _, err := c.Job(t.Context(), strings.Repeat("0", 32)); return err },
		http.MethodGet, "/v1/jobs/"+strings.Repeat("0", 32), "", pki.KindNotFound, http.StatusNotFound, "job")
	h.both(t, "no job at all", token, nil, func(c *client.Client) error { _, err := c.Job(t.Context(), "x"); return err },
		http.MethodGet, "/v1/jobs/x", "", pki.KindInvalid, http.StatusBadRequest, "job")

	// A long list of certificates is a large request, and is read.
	var many client.Selector
	for i := range 20_000 {
		many.Certificates = append(many.Certificates, client.CertificateName{Issuer: h.issuing.ID, Serial: pki.Serial{18: byte(i >> 8), 19: byte(i)}})
	}
	unknown, err := c.PlanJob(t.Context(), client.JobRequest{Selector: many})
	if err != nil || unknown.Unknown != 20_000 || unknown.Expired != 0 || unknown.Job.Selected != 0 || len(unknown.UnknownCertificates) != 10 ||
		unknown.UnknownCertificates[9] != many.Certificates[9] {
		t.Errorf("20,000 certificates that are not there: %+v, %v", unknown, err)
	}
}

func pemText(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestBlockKey(t *testing.T) {
	h := newHouse(t)
	admin := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	token := h.token(auth.Spec{Name: "stranger", Role: auth.RoleAuditor})
	stranger := h.grpc(token, nil)
	blockedIs := func(what string, hash pki.KeyHash, want bool) {
		t.Helper()
		if got, err := stranger.KeyIsBlocked(t.Context(), hash); err != nil || got != want {
			t.Errorf("%s: blocked %v, %v, want %v", what, got, err, want)
		}
	}

	// A caller that shows the key may block it, whatever its role.
	pair := h.pair("server", 0, "a.example")
	hash := pki.HashSPKI(pair.Leaf.RawSubjectPublicKeyInfo)
	blockedIs("before", hash, false)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	private := pemText(t, "PRIVATE KEY", pkcs8, err)
	blocked, err := stranger.BlockKey(t.Context(), client.BlockRequest{PrivateKeyPEM: []byte(private)})
	if err != nil || blocked.Revoked != 1 || blocked.KeyHash != hash || blocked.Proof != "private-key" || blocked.Repeated || blocked.Sequence == 0 {
		t.Fatalf("by the private key: %+v, %v", blocked, err)
	}
	blockedIs("after", hash, true)
	if found, err := stranger.CheckCertificate(t.Context(), pair.Certificate[0], time.Time{}); err != nil || found.Verdict != client.VerdictRevoked || found.Revocation.Reason != pki.KeyCompromise {
		t.Errorf("the certificate: %+v, %v", found, err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Issue(t.Context(), client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{"b.example"}}); pki.KindOf(err) != pki.KindRefused {
		t.Errorf("issuing for a blocked key: %v", err)
	}
	body, err := json.Marshal(map[string]string{"privateKeyPem": private})
	if err != nil {
		t.Fatal(err)
	}
	if a := h.rest(token, nil, http.MethodPost, "/v1/keys:block", string(body)); a.Status != http.StatusOK || a.Body["repeated"] != true {
		t.Errorf("again over REST: %d %s", a.Status, a.Text)
	}
	if strings.Contains(h.log.String(), "PRIVATE KEY") {
		t.Error("a private key is in the log")
	}

	// By a request that says what it is for.
	pair = h.pair("server", 0, "c.example")
	proof, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: rpc.CompromiseName}}, pair.PrivateKey)
	text := pemText(t, "CERTIFICATE REQUEST", proof, err)
	if blocked, err := stranger.BlockKey(t.Context(), client.BlockRequest{ProofCSRPEM: []byte(text)}); err != nil || blocked.Revoked != 1 || blocked.Proof != "signed-request" {
		t.Errorf("by a signed request: %+v, %v", blocked, err)
	}

	// By a signed challenge.
	pair = h.pair("server", 0, "h.example")
	challenge, err := client.SignChallenge(pair.PrivateKey.(crypto.Signer), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if blocked, err := stranger.BlockKey(t.Context(), client.BlockRequest{Challenge: challenge}); err != nil || blocked.Revoked != 1 || blocked.Proof != "signed-challenge" {
		t.Errorf("by a signed challenge: %+v, %v", blocked, err)
	}
	if body, err = json.Marshal(map[string]any{"signedChallenge": map[string]any{"spkiDer": challenge.SPKI, "signedAt": challenge.At.UTC().Truncate(time.Second), "signature": challenge.Signature}}); err != nil {
		t.Fatal(err)
	}
	if a := h.rest(token, nil, http.MethodPost, "/v1/keys:block", string(body)); a.Status != http.StatusOK || a.Body["repeated"] != true || a.Body["proof"] != "BLOCK_PROOF_SIGNED_CHALLENGE" {
		t.Errorf("the same over REST: %d %s", a.Status, a.Text)
	}

	// By an administrator's word.
	pair = h.pair("server", 0, "d.example")
	hash = pki.HashSPKI(pair.Leaf.RawSubjectPublicKeyInfo)
	h.both(t, "a stranger's word", token, nil, func(c *client.Client) error {
		_, err := c.BlockKey(t.Context(), client.BlockRequest{KeyHash: hash, Comment: "trust me"})
		return err
	}, http.MethodPost, "/v1/keys:block", fmt.Sprintf(`{"keyHash":%q,"comment":"trust me"}`, hash), pki.KindDenied, http.StatusForbidden, "")
	if _, err := admin.BlockKey(t.Context(), client.BlockRequest{KeyHash: hash}); fieldOf(err) != "comment" {
		t.Errorf("an administrator who does not say why: %v", err)
	}
	if _, err := admin.BlockKey(t.Context(), client.BlockRequest{KeyHash: hash, Comment: strings.Repeat("x", 1001)}); fieldOf(err) != "comment" {
		t.Errorf("an administrator who says too much: %v", err)
	}
	if _, err := admin.BlockKey(t.Context(), client.BlockRequest{KeyHash: hash, Comment: "found", InvalidityAt: time.Now().Add(time.Hour)}); fieldOf(err) != "invalidity_at" {
		t.Errorf("a compromise to come: %v", err)
	}
	if blocked, err := admin.BlockKey(t.Context(), client.BlockRequest{KeyHash: hash, Comment: "found on a forum"}); err != nil || blocked.Revoked != 1 || blocked.Proof != "statement" {
		t.Errorf("an administrator's word: %+v, %v", blocked, err)
	}

	// In another encoding it is the same key, for blocking it and for requesting a certificate.
	for name, block := range map[string]func(odd []byte, signer crypto.Signer) client.BlockRequest{
		"f.example": func(odd []byte, _ crypto.Signer) client.BlockRequest {
			return client.BlockRequest{SPKI: odd, Comment: "found"}
		},
		"g.example": func(odd []byte, signer crypto.Signer) client.BlockRequest {
			return client.BlockRequest{ProofCSRPEM: []byte(pemText(t, "CERTIFICATE REQUEST", requestWith(t, odd, rpc.CompromiseName, signer), nil))}
		},
	} {
		pair := h.pair("server", 0, name)
		signer := pair.PrivateKey.(crypto.Signer)
		odd := oddly(t, pair.Leaf.RawSubjectPublicKeyInfo)
		if blocked, err := admin.BlockKey(t.Context(), block(odd, signer)); err != nil || blocked.Revoked != 1 || blocked.KeyHash != pki.HashSPKI(pair.Leaf.RawSubjectPublicKeyInfo) {
			t.Errorf("%s, by another encoding of its key: %+v, %v", name, blocked, err)
		}
		_, err := admin.Issue(t.Context(), client.IssueRequest{CSR: requestWith(t, odd, "", signer), Profile: "server", Identifiers: []string{"b.example"}})
		if pki.KindOf(err) != pki.KindRefused || !strings.Contains(err.Error(), "blocked") {
			t.Errorf("%s: issuing for another encoding of a blocked key: %v", name, err)
		}
	}

	// What proves nothing.
	victim := h.pair("server", 0, "e.example")
	yesterday, err := client.SignChallenge(victim.PrivateKey.(crypto.Signer), time.Now().AddDate(0, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	ordinary, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), victim.PrivateKey)
	copied := pemText(t, "CERTIFICATE REQUEST", ordinary, err)
	forged := pemText(t, "CERTIFICATE REQUEST", flipped(proof), nil)
	for what, q := range map[string]client.BlockRequest{
		"an ordinary request that was copied": {ProofCSRPEM: []byte(copied)},
		"a request with a bad signature":      {ProofCSRPEM: []byte(forged)},
		"no key":                              {PrivateKeyPEM: []byte("hello")},
		"a stranger's modulus":                {PrivateKeyPEM: []byte(strangersModulus(t))},
		"a challenge signed by another key":   {Challenge: &client.Challenge{SPKI: victim.Leaf.RawSubjectPublicKeyInfo, At: challenge.At, Signature: challenge.Signature}},
		"a challenge of yesterday":            {Challenge: yesterday},
		"a challenge by no key":               {Challenge: &client.Challenge{At: challenge.At, Signature: challenge.Signature}},
	} {
		if _, err := stranger.BlockKey(t.Context(), q); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	blockedIs("the victim", pki.HashSPKI(victim.Leaf.RawSubjectPublicKeyInfo), false)
}

// oddly encodes a key in a way that no certificate of ours has, and that crypto/x509 reads: with something behind its
// parameters.
func oddly(t *testing.T, spki []byte) []byte {
	t.Helper()
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		t.Fatal(err)
	}
	odd, err := asn1.Marshal(struct {
		Algorithm struct {
			Algorithm  asn1.ObjectIdentifier
			Parameters asn1.RawValue
			Odd        asn1.RawValue
		}
		Key asn1.BitString
	}{struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue
		Odd        asn1.RawValue
	}{info.Algorithm.Algorithm, info.Algorithm.Parameters, asn1.NullRawValue}, info.Key})
	if err != nil {
		t.Fatal(err)
	}
	return odd
}

// requestWith is a request with this encoding of the P-256 key that signs it.
func requestWith(t *testing.T, spki []byte, name string, signer crypto.Signer) []byte {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: name}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(struct {
		Version      int
		Subject, Key asn1.RawValue
		Attributes   []asn1.RawValue `asn1:"tag:0,set"`
	}{Subject: asn1.RawValue{FullBytes: subject}, Key: asn1.RawValue{FullBytes: spki}})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	request, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// strangersModulus is a private key whose public half belongs to another key.
func strangersModulus(t *testing.T) string {
	t.Helper()
	mine, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encoded := x509.MarshalPKCS1PrivateKey(mine)
	swapped := strings.Replace(string(encoded), string(mine.N.Bytes()), string(theirs.N.Bytes()), 1)
	if swapped == string(encoded) || new(big.Int).SetBytes(theirs.N.Bytes()).Cmp(theirs.N) != 0 {
		t.Fatal("the modulus was not swapped")
	}
	return pemText(t, "RSA PRIVATE KEY", []byte(swapped), nil)
}

// published is a publication that a test decides about.
type published func(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error)

func (p published) AwaitPublished(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error) {
	return p(ctx, issuers, seq)
}

func TestWaitForPublication(t *testing.T) {
	var asked uint64
	var of []pki.IssuerID
	stuck := false
	when := time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
	h := newHouse(t, func(c *rpc.Config) {
		c.Timeout = 4 * time.Second // for every call, including those that no caller waits for
		c.Publication = published(func(ctx context.Context, issuers []pki.IssuerID, seq uint64) (time.Time, error) {
			asked, of = seq, issuers
			if stuck {
				<-ctx.Done()
				return time.Time{}, ctx.Err()
			}
			return when, nil
		})
	})
	c := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin}), nil)
	change, err := c.Revoke(t.Context(), client.RevokeRequest{Certificate: h.pair("server", 0, "a.example").Certificate[0], WaitPublished: true})
	if err != nil || !change.PublishedAt.Equal(when) || asked != change.Sequence || !slices.Equal(of, []pki.IssuerID{h.issuing.ID}) {
		t.Errorf("%+v, %v; asked of %s", change, err, of)
	}
	plan, err := c.PlanJob(t.Context(), client.JobRequest{Selector: client.Selector{Where: "profile=server"}, Reason: pki.KeyCompromise})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StartJob(t.Context(), plan.Job.ID, 0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !plan.Job.State.Ended() && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		job, err := c.Job(t.Context(), plan.Job.ID)
		if err != nil || !job.PublishedAt.IsZero() {
			t.Fatalf("%+v, %v", job, err)
		}
		plan.Job = *job
	}
	job, err := c.AwaitJobPublished(t.Context(), plan.Job.ID)
	if err != nil || !job.PublishedAt.Equal(when) || job.Sequence == 0 || asked != job.Sequence || job.State != client.JobDone || of != nil {
		t.Errorf("%+v, %v; asked for %d of %s", job, err, asked, of)
	}
	// No other shows what it revokes.
	for where, want := range map[string][]pki.IssuerID{"issuer=issuing": {h.issuing.ID}, "under=root": {h.root.ID, h.issuing.ID}} {
		plan, err := c.PlanJob(t.Context(), client.JobRequest{Selector: client.Selector{Where: where}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.AwaitJobPublished(t.Context(), plan.Job.ID); err != nil || !slices.Equal(of, want) {
			t.Errorf("%s waits for %s, %v; want %s", where, of, err, want)
		}
	}
	hashOf := func(name string) pki.KeyHash {
		return pki.HashSPKI(h.pair("server", 0, name).Leaf.RawSubjectPublicKeyInfo)
	}
	asked = 0
	blocked, err := c.BlockKey(t.Context(), client.BlockRequest{KeyHash: hashOf("c.example"), Comment: "found"})
	if err != nil || blocked.Revoked != 1 || !blocked.PublishedAt.IsZero() || asked != 0 {
		t.Errorf("a key is blocked, and nobody waits: %+v, %v; asked for %d", blocked, err, asked)
	}
	blocked, err = c.BlockKey(t.Context(), client.BlockRequest{KeyHash: hashOf("d.example"), Comment: "found", WaitPublished: true})
	if err != nil || blocked.Revoked != 1 || !blocked.PublishedAt.Equal(when) || blocked.Sequence == 0 || asked != blocked.Sequence || of != nil {
		t.Errorf("a key is blocked: %+v, %v; asked for %d of %s", blocked, err, asked, of)
	}
	// It is not published in time: the caller hears that it is revoked, and that it is not published.
	stuck = true
	blocked, err = c.BlockKey(t.Context(), client.BlockRequest{KeyHash: hashOf("e.example"), Comment: "found", WaitPublished: true})
	if err != nil || blocked.Revoked != 1 || !blocked.PublishedAt.IsZero() {
		t.Errorf("a key is blocked: %+v, %v", blocked, err)
	}
	if job, err = c.AwaitJobPublished(t.Context(), plan.Job.ID); err != nil || !job.PublishedAt.IsZero() || job.State != client.JobDone {
		t.Errorf("%+v, %v", job, err)
	}
	change, err = c.Revoke(t.Context(), client.RevokeRequest{Certificate: h.pair("server", 0, "b.example").Certificate[0], WaitPublished: true})
	if err != nil || !change.PublishedAt.IsZero() || change.Status != client.StatusRevoked {
		t.Errorf("%+v, %v", change, err)
	}
}

func TestIssuersOverAPI(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin})
	c := h.grpc(token, nil)
	issuers, err := c.Issuers(t.Context())
	if err != nil || len(issuers) != 2 {
		t.Fatalf("%d issuers, %v", len(issuers), err)
	}
	for _, i := range issuers {
		if i.Root != (i.ID == h.root.ID) || i.State != client.IssuerActive || i.KeyType != "ECDSA P-256" || !i.Online || i.Label == "" {
			t.Errorf("%+v", i)
		}
	}
	sameJSON(t, "list issuers", map[string]any{"issuers": issuers}, h.rest(token, nil, http.MethodGet, "/v1/issuers", ""))
	made, err := c.CreateIssuer(t.Context(), client.IssuerSpec{Label: "second", Subject: client.Subject{CommonName: "Second CA"}, Algorithm: "ecdsa-p384", BaseURL: "http://pki.test",
		Parent: h.root.ID, Permitted: client.NameConstraints{DNS: []string{"example"}}})
	if err != nil || made.KeyType != "ECDSA P-384" || made.State != client.IssuerActive || len(made.PEM) == 0 {
		t.Fatalf("%+v, %v", made, err)
	}
	waiting, err := c.CreateIssuer(t.Context(), client.IssuerSpec{Label: "waiting", Subject: client.Subject{CommonName: "Waiting CA"}, BaseURL: "http://pki.test", Offline: true})
	if err != nil || waiting.State != client.IssuerPending || !bytes.Contains(waiting.CSRPEM, []byte("CERTIFICATE REQUEST")) {
		t.Fatalf("%+v, %v", waiting, err)
	}
	// The parent elsewhere signs, and the certificate comes back.
	block, _ := pem.Decode(waiting.CSRPEM)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	parent := newAuthority(t, "Parent elsewhere")
	signed := parent.sign(t, &x509.Certificate{SerialNumber: big.NewInt(9), RawSubject: request.RawSubject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, request.PublicKey)
	bundle := pemText(t, "CERTIFICATE", signed.Raw, nil) + pemText(t, "CERTIFICATE", parent.certificate.Raw, nil)
	imported, err := c.ImportIssuerCertificate(t.Context(), client.IssuerImport{PEM: []byte(bundle)})
	if err != nil || imported.ID != waiting.ID || imported.State != client.IssuerActive {
		t.Errorf("import: %+v, %v", imported, err)
	}
	crossed, err := c.CrossSignIssuer(t.Context(), made.ID, imported.ID, time.Hour)
	if err != nil && pki.KindOf(err) == pki.KindInternal {
		t.Errorf("cross-sign: %+v, %v", crossed, err)
	}
	disabled, err := c.SetIssuerState(t.Context(), made.ID, client.IssuerDisabled)
	if err != nil || disabled.State != client.IssuerDisabled {
		t.Errorf("disable: %+v, %v", disabled, err)
	}
	h.both(t, "a state that nobody can ask for", token, nil, func(c *client.Client) error {
		_, err := c.SetIssuerState(t.Context(), made.ID, client.IssuerPending)
		return err
	},
		http.MethodPost, "/v1/issuers/"+made.ID.String()+":setState", `{"state":"ISSUER_STATE_PENDING"}`, pki.KindInvalid, http.StatusBadRequest, "state")
	h.both(t, "an unknown key type", token, nil, func(c *client.Client) error {
		_, err := c.CreateIssuer(t.Context(), client.IssuerSpec{Label: "third", Subject: client.Subject{CommonName: "Third"}, Algorithm: "rot13", BaseURL: "http://pki.test"})
		return err
	}, http.MethodPost, "/v1/issuers", `{"label":"third","subject":{"commonName":"Third"},"algorithm":"rot13","baseUrl":"http://pki.test"}`, pki.KindInvalid, http.StatusBadRequest, "algorithm")
	h.both(t, "an issuer that is there already", token, nil, func(c *client.Client) error {
		_, err := c.CreateIssuer(t.Context(), client.IssuerSpec{Label: "issuing", Subject: client.Subject{CommonName: "Other"}, BaseURL: "http://pki.test"})
		return err
	}, http.MethodPost, "/v1/issuers", `{"label":"issuing","subject":{"commonName":"Other"},"baseUrl":"http://pki.test"}`, pki.KindConflict, http.StatusConflict, "label")

	profiles, err := h.grpc(h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester, Profiles: []string{"server"}}), nil).Profiles(t.Context())
	if err != nil || len(profiles) != 1 || profiles[0].Name != "server" || profiles[0].Lifetime == 0 || len(profiles[0].Algorithms) == 0 {
		t.Errorf("profiles of a limited credential: %+v, %v", profiles, err)
	}
	internal := func(p client.Profile) bool { return p.Name == "ocsp-responder" } // for internal use only
	if profiles, err = h.grpc(h.token(auth.Spec{Name: "any", Role: auth.RoleRequester}), nil).Profiles(t.Context()); err != nil || len(profiles) < 3 || slices.ContainsFunc(profiles, internal) {
		t.Errorf("profiles of a requester: %+v, %v", profiles, err)
	}
	if profiles, err = c.Profiles(t.Context()); err != nil || !slices.ContainsFunc(profiles, internal) {
		t.Errorf("profiles of an administrator: %+v, %v", profiles, err)
	}
}

// Who gives up a stream is told that it was he, and need not try again.
func TestGivenUpStream(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	batch, err := h.grpc(h.token(auth.Spec{Name: "fleet", Role: auth.RoleRequester, Profiles: []string{"server"}}), nil).IssueBatch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	_, request := csr(t)
	if err := batch.Send(client.IssueRequest{CSR: request, Identifiers: []string{"a.example"}, RequestID: "1"}); err != nil {
		t.Fatal(err)
	}
	if answer, err := batch.Receive(); err != nil || answer.Err != nil {
		t.Fatal(err, answer.Err)
	}
	cancel()
	if _, err := batch.Receive(); !errors.Is(err, context.Canceled) || pki.KindOf(err) != pki.KindUnavailable {
		t.Errorf("given up by the caller: %v", err)
	}
}
