package rest_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"iter"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// requestOf is a request for a key without a holder, with an invented signature.
func requestOf(t *testing.T, public any) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	body, err := asn1.Marshal(struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, pkix.Name{CommonName: rpc.CompromiseName}.ToRDNSequence(), asn1.RawValue{FullBytes: spki}, asn1.RawValue{FullBytes: []byte{0xa0, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: body}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, 512), BitLength: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A private key of 64 Ki bits signs for more than a minute, and any credential may show one.
func TestProofsByKeysOfAnyLength(t *testing.T) {
	h := newHouse(t)
	stranger := h.grpc(h.token(auth.Spec{Name: "stranger", Role: auth.RoleAuditor}), nil)
	long := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 8192), big.NewInt(1))
	_, err := stranger.BlockKey(t.Context(), client.BlockRequest{ProofCSRPEM: []byte(pemText(t, "CERTIFICATE REQUEST", requestOf(t, &rsa.PublicKey{N: long, E: 65537}), nil))})
	if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != "proof_csr_pem" || !strings.Contains(err.Error(), "8193 bits") {
		t.Errorf("a request for a long key: %v", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: long, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stranger.BlockKey(t.Context(), client.BlockRequest{Challenge: &client.Challenge{SPKI: spki, At: time.Now(), Signature: make([]byte, 1025)}})
	if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != "signed_challenge" || !strings.Contains(err.Error(), "8193 bits") {
		t.Errorf("a challenge signed by a long key: %v", err)
	}
	_, err = stranger.BlockKey(t.Context(), client.BlockRequest{PrivateKeyPEM: []byte(pemText(t, "RSA PRIVATE KEY", make([]byte, 17<<10), nil))})
	if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != "private_key_pem" || !strings.Contains(err.Error(), "17408 octets") {
		t.Errorf("a long private key: %v", err)
	}
}

// What a caller sends is in the error that refuses it, and the error is in the audit log, for ever.
func TestRefusalsAreShort(t *testing.T) {
	h := newHouse(t)
	ci := h.grpc(h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester, Profiles: []string{"server"}}), nil)
	_, err := ci.Issue(t.Context(), client.IssueRequest{CSR: []byte{1}, Profile: "\x1b[2J\n" + strings.Repeat("x", 300<<10)})
	if pki.KindOf(err) != pki.KindDenied || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("a profile of 300 KiB: %.600v", err)
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Actor: "token:ci"}, 0, 100)
	if err != nil || len(events) != 1 || len(events[0].DetailJSON()) > 1000 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

// A stream continues as the principal that began it, or ends: the certificate that it was opened with belongs to
// another credential now.
func TestStreamOfAnotherCredential(t *testing.T) {
	h := newHouse(t)
	bind := func(name string, role auth.Role) {
		t.Helper()
		if _, err := h.credentials.BindCertificate(t.Context(), h.admin, auth.Spec{Name: name, Role: role, Issuer: h.issuing.ID,
			Identifier: pki.Identifier{Type: pki.DNS, Value: "agent.example"}}); err != nil {
			t.Fatal(err)
		}
	}
	bind("before", auth.RoleAdmin)
	batch, err := h.grpc("", h.pair("client", 48*time.Hour, "agent.example")).IssueBatch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	_, request := csr(t)
	issue := func(id string) (client.IssueResult, error) {
		t.Helper()
		if err := batch.Send(client.IssueRequest{CSR: request, Profile: "server", Identifiers: []string{"a.example"}, RequestID: id}); err != nil {
			t.Fatal(err)
		}
		return batch.Receive()
	}
	if result, err := issue("1"); err != nil || result.Err != nil {
		t.Fatal(err, result.Err)
	}
	if _, err := h.credentials.Disable(t.Context(), h.admin, "before"); err != nil {
		t.Fatal(err)
	}
	bind("after", auth.RoleAuditor)
	if result, err := issue("2"); pki.KindOf(err) != pki.KindUnauthenticated || err == nil {
		t.Errorf("issued as a credential that is disabled: %+v, %v", result, err)
	}
}

// No credential can hold every stream: not by streams that it keeps moving, and not by watching the health of the
// server.
func TestStreamsOfOneCredential(t *testing.T) {
	h := newHouse(t, func(c *rpc.Config) { c.Streams = 8 })
	greedy, other := h.token(auth.Spec{Name: "greedy", Role: auth.RoleAuditor}), h.token(auth.Spec{Name: "other", Role: auth.RoleAuditor})
	conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch := func(token string) error {
		stream, err := healthv1.NewHealthClient(conn).Watch(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), nil)
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	for i := range 9 {
		if err := watch(greedy); i < 2 && err != nil || i >= 2 && status.Code(err) != codes.ResourceExhausted {
			t.Errorf("stream %d of one credential: %v", i, err)
		}
	}
	if err := watch(other); err != nil {
		t.Errorf("the first of another: %v", err)
	}
}

// slowLog takes as long to read as a test wants.
type slowLog struct {
	rpc.AuditLog
	entered, leave chan struct{}
}

func (l slowLog) AuditBatches(context.Context, uint64) iter.Seq2[audit.Batch, error] {
	return func(func(audit.Batch, error) bool) { l.entered <- struct{}{}; <-l.leave }
}

// A caller that may read the log cannot have all of it read any number of times at once.
func TestVerifyingTheLogIsBounded(t *testing.T) {
	log := slowLog{entered: make(chan struct{}), leave: make(chan struct{})}
	h := newHouse(t, func(c *rpc.Config) { log.AuditLog, c.Audit = c.Audit, &log })
	c := h.grpc(h.token(auth.Spec{Name: "eye", Role: auth.RoleAuditor}), nil)
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := c.VerifyAudit(t.Context(), ""); ended <- err }()
		<-log.entered
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		select {
		case <-log.entered:
			cancel()
		case <-ctx.Done():
		}
	}()
	if _, err := c.VerifyAudit(ctx, ""); pki.KindOf(err) != pki.KindExhausted || err == nil {
		t.Errorf("a third time at once: %v", err)
	}
	close(log.leave)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// The status of a certificate is public; whose it is, and under which profile it was issued, is not.
func TestCheckTellsNoAccount(t *testing.T) {
	h := newHouse(t)
	der := h.pair("server", 0, "a.example").Certificate[0]
	for _, test := range []struct {
		spec auth.Spec
		told bool
	}{
		{auth.Spec{Name: "eye", Role: auth.RoleAuditor}, true}, {auth.Spec{Name: "twin", Role: auth.RoleRequester, Account: "pair"}, true},
		{auth.Spec{Name: "other", Role: auth.RoleRequester}, false}, {auth.Spec{Name: "approver", Role: auth.RoleApprover}, false},
	} {
		found, err := h.grpc(h.token(test.spec), nil).CheckCertificate(t.Context(), der, time.Time{})
		if err != nil || found.Verdict != client.VerdictInForce {
			t.Fatalf("%s: %+v, %v", test.spec.Name, found, err)
		}
		var said []string
		for _, e := range found.Evidence {
			said = append(said, e.Statement)
		}
		if told := strings.Contains(strings.Join(said, "\n"), "account pair"); told != test.told {
			t.Errorf("%s is told %q", test.spec.Name, said)
		}
	}
}
