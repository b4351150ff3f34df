package rest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
)

// A request that cannot be read is refused before the CA sees it. The audit log records it all the same: one event
// each, with the caller, over every interface.
func TestMalformedRequestsAreInTheLog(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		h := newHouseOn(t, s)
		token := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
		_, good := csr(t)
		many := make([]string, 10_000)
		for i := range many {
			many[i] = fmt.Sprintf("n%d.example", i)
		}
		junk := func(octets int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30}, octets)) }
		conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		passed := 0 // to gRPC, to which what is no message cannot be sent
		old := h.pair("client", 0, "a.example")
		for what, test := range map[string]struct {
			field string
			value any
		}{
			"a CSR of a megabyte":               {"csrDer", junk(1 << 20)},
			"a CSR of 70 KiB":                   {"csrDer", junk(70 << 10)},
			"no CSR":                            {"csrDer", ""},
			"no request":                        {"csrDer", junk(10)}, // which the authority refuses
			"a CSR that is no base64":           {"csrDer", "\u2205"},
			"10,000 names":                      {"identifiers", many},
			"a NUL":                             {"identifiers", []string{"a\x00.example"}},
			"a space":                           {"identifiers", []string{"a b.example"}},
			"an address as a DNS name":          {"identifiers", []string{"dns:192.0.2.7"}},
			"two cases of one name":             {"identifiers", []string{"a.example", "A.example"}},
			"a lifetime below none":             {"lifetime", "-1s"},
			"a lifetime that cannot be":         {"lifetime", "soon"},
			"an issuer that is none":            {"issuer", "x"},
			"a long field that is none":         {strings.Repeat("sudo", 10_000), true},
			"an end that is no time":            {"notAfter", "then"},
			"a request id that could be no one": {"requestId", "\x00"},
		} {
			message := map[string]any{"csrDer": good, "profile": "server", "identifiers": []string{"a.example"}, "requestId": "1"}
			message[test.field] = test.value
			body, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			h.loggedOnce(what, "token:ci", func() string {
				a := h.rest(token, nil, http.MethodPost, "/v1/certificates", string(body))
				if a.Status < 400 || a.Status > 499 {
					t.Errorf("%s: %d %s", what, a.Status, a.Text)
				}
				return a.Header.Get("X-Request-Id")
			})
			request := new(signetv1.IssueCertificateRequest)
			if protojson.Unmarshal(body, request) == nil {
				passed++
				h.loggedOnce(what+", over gRPC", "token:ci", func() string {
					ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token, "x-request-id", "mine")
					if _, err := signetv1.NewCertificateServiceClient(conn).IssueCertificate(ctx, request); status.Code(err) != codes.InvalidArgument {
						t.Errorf("%s, over gRPC: %v", what, err)
					}
					return "mine"
				})
			}
			h.loggedOnce(what+", as an item", "token:ci", func() string {
				a := h.rest(token, nil, http.MethodPost, "/v1/certificates:issue", string(body)+"\n")
				if !strings.Contains(a.Text, `"problem":`) {
					t.Errorf("%s, as an item: %d %s", what, a.Status, a.Text)
				}
				return a.Header.Get("X-Request-Id")
			})
		}
		if passed < 10 {
			t.Errorf("only %d of these are messages", passed)
		}
		for what, request := range map[string]string{"a CSR of 70 KiB": junk(70 << 10), "a CSR of 200 KiB": junk(200 << 10), "no request": junk(10)} {
			actor := "anonymous"
			if what == "no request" { // the proof is good by then
				actor = "renewal:" + h.issuing.ID.String()
			}
			h.loggedOnce("renewal, "+what, actor, func() string {
				a := h.rest("", old, http.MethodPost, "/v1/certificates:renew", `{"csrDer":"`+request+`"}`)
				if a.Status < 400 || a.Status > 499 {
					t.Errorf("renewal, %s: %d %s", what, a.Status, a.Text)
				}
				return a.Header.Get("X-Request-Id")
			})
		}
	})
}

// octets are sent as they are: no message of protobuf need be in them.
type octets struct{}

func (octets) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (octets) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }
func (octets) Name() string                       { return "proto" }

// What is no message is in the audit log before that is said, as an item of a stream too.
func TestWhatIsNoMessageIsInTheLog(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		h := newHouseOn(t, s)
		token := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
		conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots})),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(octets{}), grpc.MaxCallSendMsgSize(20<<20)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		known := func() context.Context {
			return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		}
		for what, message := range map[string][]byte{"9 MiB": make([]byte, 9<<20), "what is no protobuf": {0xff, 0xff}} {
			for method, ask := range map[string]func() context.Context{
				signetv1.CertificateService_IssueCertificate_FullMethodName: known, signetv1.CertificateService_RenewCertificate_FullMethodName: t.Context,
			} {
				actor := "token:ci"
				if method == signetv1.CertificateService_RenewCertificate_FullMethodName {
					actor = "anonymous"
				}
				h.loggedOnce(what+" to "+method, actor, func() string {
					var header metadata.MD
					if err := conn.Invoke(ask(), method, &message, new(signetv1.IssueCertificateResponse), grpc.Header(&header)); err == nil {
						t.Errorf("%s to %s was answered", what, method)
					}
					return strings.Join(header.Get("x-request-id"), " ")
				})
			}
			h.loggedOnce(what+" as an item", "token:ci", func() string {
				stream, err := conn.NewStream(known(), &signetv1.CertificateService_ServiceDesc.Streams[0], signetv1.CertificateService_IssueCertificates_FullMethodName)
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				if err := stream.RecvMsg(new(signetv1.IssueCertificatesResponse)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("%s as an item: %v", what, err)
				}
				header, err := stream.Header()
				if err != nil {
					t.Fatal(err)
				}
				return strings.Join(header.Get("x-request-id"), " ")
			})
			// Other methods issue nothing: requests to them that cannot be read are not recorded.
			head, err := h.store.AuditHead(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Invoke(known(), signetv1.CertificateService_ListCertificates_FullMethodName, &message, new(signetv1.ListCertificatesResponse)); err == nil {
				t.Errorf("%s to a list was answered", what)
			}
			if after, err := h.store.AuditHead(t.Context()); err != nil || after.Seq != head.Seq {
				t.Errorf("%s to a list is in the audit log: %v", what, err)
			}
		}
	})
}

// What becomes of an item of a stream is in the log before its caller is told, while the stream goes on.
func TestAnItemIsInTheLogBeforeItIsAnswered(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		h := newHouseOn(t, s)
		token := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
		_, der := csr(t)
		conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token, "x-request-id", "mine")
		stream, err := signetv1.NewCertificateServiceClient(conn).IssueCertificates(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(id, profile, name string) *signetv1.IssueCertificatesResponse {
			t.Helper()
			item := signetv1.IssueCertificateRequest_builder{CsrDer: der, Profile: &profile, Identifiers: []string{name}, RequestId: &id}.Build()
			if err := stream.Send(item); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		for what, item := range map[string][3]string{
			"a NUL":                  {"1", "server", "a\x00.example"},
			"no request id":          {"", "server", "a.example"},
			"an address as a name":   {"2", "server", "dns:192.0.2.7"},
			"a profile for others":   {"3", "sub-ca", "a.example"},
			"a profile there is not": {"4", "none", "a.example"},
		} {
			h.loggedOnce(what, "token:ci", func() string {
				if answer := ask(item[0], item[1], item[2]); !answer.HasProblem() {
					t.Errorf("%s: %v", what, answer)
				}
				return "mine"
			})
		}
		before, err := h.store.AuditHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if answer := ask("5", "server", "a.example"); !answer.HasIssued() {
			t.Errorf("%v", answer)
		}
		events, err := h.store.AuditEvents(t.Context(), audit.Filter{}, before.Seq, 10)
		if err != nil || len(events) != 1 || events[0].Action != "certificate.issue" || events[0].Outcome != audit.OK {
			t.Errorf("of what was issued the log has %+v, %v", events, err)
		}
	})
}

// A refusal by the CA that it has recorded itself, whoever the caller, is in the log once.
func TestDeniedOnce(t *testing.T) {
	h := newHouse(t)
	token := h.token(auth.Spec{Name: "ci", Role: auth.RoleRequester})
	_, good := csr(t)
	body, err := json.Marshal(map[string]any{"csrDer": good, "profile": "sub-ca"})
	if err != nil {
		t.Fatal(err)
	}
	h.loggedOnce("a profile for others", "token:ci", func() string {
		a := h.rest(token, nil, http.MethodPost, "/v1/certificates", string(body))
		if a.Status != http.StatusForbidden {
			t.Errorf("%d %s", a.Status, a.Text)
		}
		return a.Header.Get("X-Request-Id")
	})
}

// loggedOnce checks that a call which is refused writes one event, with the id that its answer has.
func (h *house) loggedOnce(what, actor string, call func() (requestID string)) {
	h.t.Helper()
	before, err := h.store.AuditHead(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	id := call()
	events, err := h.store.AuditEvents(h.t.Context(), audit.Filter{}, before.Seq, 10)
	if err != nil {
		h.t.Fatal(err)
	}
	if len(events) != 1 {
		h.t.Errorf("%s: %d events: %+v", what, len(events), events)
		return
	}
	e := events[0]
	if !strings.HasPrefix(e.Actor, actor) || e.Action != "certificate.issue" || e.Outcome != audit.Refused || e.RequestID != id || id == "" || e.Source != "127.0.0.1" ||
		e.Detail["error"] == "" || len(e.DetailJSON()) > 1500 {
		h.t.Errorf("%s: the answer has id %q, the log %+v", what, id, e)
	}
}
