package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"iter"
	"math/big"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"signet.example/signet/api/client"
	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// stingy is a server that has six of everything and gives them in pages of two, whatever is asked for, with an empty page in between: AIP-158
// allows both, and no server of ours does either. For the account or with the state that fails, it fails instead of giving the last page.
type stingy struct {
	signetv1.UnimplementedCertificateServiceServer
	signetv1.UnimplementedJobServiceServer
	signetv1.UnimplementedRequestServiceServer
	signetv1.UnimplementedCredentialServiceServer
	signetv1.UnimplementedKeyServiceServer
	signetv1.UnimplementedAuditServiceServer
}

const failing = "failing"

// pageAfter returns the numbers on a page, and the token of the next.
func pageAfter(token string) (numbers []byte, next *string) {
	switch token {
	case "":
		return []byte{1, 2}, new("a")
	case "a":
		return nil, new("b")
	case "b":
		return []byte{3, 4}, new("c")
	}
	return []byte{5, 6}, nil
}

func named(n byte) *string { return new(strconv.Itoa(int(n))) }

func (stingy) ListCertificates(_ context.Context, m *signetv1.ListCertificatesRequest) (*signetv1.ListCertificatesResponse, error) {
	if m.GetAccount() == failing && m.GetPageToken() == "c" {
		return nil, status.Error(codes.Unavailable, "gone")
	}
	numbers, next := pageAfter(m.GetPageToken())
	list := signetv1.ListCertificatesResponse_builder{NextPageToken: next}
	for _, n := range numbers {
		list.Certificates = append(list.Certificates, signetv1.Certificate_builder{Account: named(n), Issuer: new(pki.IssuerID{1}.String()), Serial: new("0a"),
			KeyHash: new(pki.KeyHash{1}.String())}.Build())
	}
	return list.Build(), nil
}

func (stingy) ListJobs(_ context.Context, m *signetv1.ListJobsRequest) (*signetv1.ListJobsResponse, error) {
	numbers, next := pageAfter(m.GetPageToken())
	list := signetv1.ListJobsResponse_builder{NextPageToken: next}
	for _, n := range numbers {
		list.Jobs = append(list.Jobs, signetv1.Job_builder{Job: named(n)}.Build())
	}
	return list.Build(), nil
}

// ListRequests spoils the field that the filter has as its profile.
func (stingy) ListRequests(_ context.Context, m *signetv1.ListRequestsRequest) (*signetv1.ListRequestsResponse, error) {
	numbers, next := pageAfter(m.GetPageToken())
	list := signetv1.ListRequestsResponse_builder{NextPageToken: next}
	for _, n := range numbers {
		request := signetv1.CertificateRequest_builder{Request: named(n)}.Build()
		if field := request.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(m.GetProfile())); field != nil {
			request.ProtoReflect().Set(field, protoreflect.ValueOfString("x"))
		}
		list.Requests = append(list.Requests, request)
	}
	return list.Build(), nil
}

func (stingy) ListCredentials(_ context.Context, m *signetv1.ListCredentialsRequest) (*signetv1.ListCredentialsResponse, error) {
	numbers, next := pageAfter(m.GetPageToken())
	list := signetv1.ListCredentialsResponse_builder{NextPageToken: next}
	for _, n := range numbers {
		list.Credentials = append(list.Credentials, signetv1.Credential_builder{Credential: named(n)}.Build())
	}
	return list.Build(), nil
}

func (stingy) ListBlockedKeys(_ context.Context, m *signetv1.ListBlockedKeysRequest) (*signetv1.ListBlockedKeysResponse, error) {
	numbers, next := pageAfter(m.GetPageToken())
	list := signetv1.ListBlockedKeysResponse_builder{NextPageToken: next}
	for _, n := range numbers {
		list.Keys = append(list.Keys, signetv1.BlockedKey_builder{Comment: named(n), KeyHash: new(pki.KeyHash{n}.String())}.Build())
	}
	return list.Build(), nil
}

// ListAuditEvents searches two positions of six, and finds nothing at the third and fourth.
func (stingy) ListAuditEvents(_ context.Context, m *signetv1.ListAuditEventsRequest) (*signetv1.ListAuditEventsResponse, error) {
	if m.GetActor() == failing && m.GetAfterSequence() == 4 {
		return nil, status.Error(codes.Unavailable, "gone")
	}
	first, step, next := m.GetAfterSequence()+1, uint64(1), m.GetAfterSequence()+2
	list := signetv1.ListAuditEventsResponse_builder{NextAfterSequence: &next}
	if m.GetNewestFirst() {
		if first = 6; m.GetBeforeSequence() != 0 {
			first = m.GetBeforeSequence() - 1
		}
		step, next = ^uint64(0), first-1
		list = signetv1.ListAuditEventsResponse_builder{NextBeforeSequence: &next}
	}
	if next == 1 || next == 6 { // the last page
		next = 0
	}
	for _, n := range []uint64{first, first + step} {
		if n != 3 && n != 4 {
			list.Events = append(list.Events, signetv1.AuditEvent_builder{Sequence: &n, Action: named(byte(n))}.Build())
		}
	}
	return list.Build(), nil
}

// ofStingy starts a stingy server and returns a client of it.
func ofStingy(t *testing.T) *client.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	signetv1.RegisterCertificateServiceServer(server, stingy{})
	signetv1.RegisterJobServiceServer(server, stingy{})
	signetv1.RegisterRequestServiceServer(server, stingy{})
	signetv1.RegisterCredentialServiceServer(server, stingy{})
	signetv1.RegisterKeyServiceServer(server, stingy{})
	signetv1.RegisterAuditServiceServer(server, stingy{})
	go func() { _ = server.Serve(listener) }() // it ends by Stop
	t.Cleanup(server.Stop)
	c, err := client.New(client.Config{Address: listener.Addr().String(), Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// read takes at most so many items of a sequence.
func read[T any](items iter.Seq2[T, error], most int, name func(T) string) (names []string, err error) {
	for item, err := range items {
		if err != nil {
			return names, err
		}
		if names = append(names, name(item)); len(names) == most {
			break
		}
	}
	return names, nil
}

// However small the pages of a server are, a list is whole.
func TestAllOfSmallPages(t *testing.T) {
	t.Parallel()
	c, ctx := ofStingy(t), t.Context()
	six := []string{"1", "2", "3", "4", "5", "6"}
	account := func(c client.Certificate) string { return c.Account }
	for what, list := range map[string]func() ([]string, error){
		"certificates": func() ([]string, error) { return read(c.AllCertificates(ctx, client.CertificateFilter{}), 9, account) },
		"jobs": func() ([]string, error) {
			return read(c.AllJobs(ctx, client.JobFilter{}), 9, func(j client.Job) string { return j.ID })
		},
		"requests": func() ([]string, error) {
			return read(c.AllRequests(ctx, client.RequestFilter{}), 9, func(r client.Request) string { return r.ID })
		},
		"credentials": func() ([]string, error) {
			return read(c.AllCredentials(ctx), 9, func(c client.Credential) string { return c.Name })
		},
		"blocked keys": func() ([]string, error) {
			return read(c.AllBlockedKeys(ctx), 9, func(k client.BlockedKey) string { return k.Comment })
		},
	} {
		if got, err := list(); err != nil || !slices.Equal(got, six) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	if got, err := read(c.AllCertificates(ctx, client.CertificateFilter{}), 3, account); err != nil || !slices.Equal(got, six[:3]) {
		t.Errorf("three of them: %q, %v", got, err)
	}
	got, err := read(c.AllCertificates(ctx, client.CertificateFilter{Account: failing}), 9, account)
	if pki.KindOf(err) != pki.KindUnavailable || !slices.Equal(got, six[:4]) {
		t.Errorf("of a server that fails at the third page: %q, %v", got, err)
	}
}

// The audit log is paged by position, in both directions.
func TestAllAuditEvents(t *testing.T) {
	t.Parallel()
	c, ctx := ofStingy(t), t.Context()
	action := func(e client.AuditEvent) string { return e.Action }
	events := c.AllAuditEvents(ctx, client.AuditFilter{})
	if got, err := read(events, 3, action); err != nil || !slices.Equal(got, []string{"1", "2", "5"}) {
		t.Errorf("three of them: %q, %v", got, err)
	}
	if got, err := read(events, 9, action); err != nil || !slices.Equal(got, []string{"1", "2", "5", "6"}) {
		t.Errorf("from the beginning again: %q, %v", got, err)
	}
	if got, err := read(c.AllAuditEvents(ctx, client.AuditFilter{After: 4}), 9, action); err != nil || !slices.Equal(got, []string{"5", "6"}) {
		t.Errorf("behind the fourth: %q, %v", got, err)
	}
	if got, err := read(c.AllAuditEvents(ctx, client.AuditFilter{Newest: true}), 9, action); err != nil || !slices.Equal(got, []string{"6", "5", "2", "1"}) {
		t.Errorf("the newest first: %q, %v", got, err)
	}
	if got, err := read(c.AllAuditEvents(ctx, client.AuditFilter{Actor: failing}), 9, action); pki.KindOf(err) != pki.KindUnavailable || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("of a server that fails at the third page: %q, %v", got, err)
	}
}

// What cannot be read is not taken for what is absent.
func TestUnreadableAnswer(t *testing.T) {
	t.Parallel()
	c := ofStingy(t)
	for _, field := range []string{"key_hash", "issuer", "serial"} {
		if list, err := c.Requests(t.Context(), client.RequestFilter{Profile: field}, client.Page{}); err == nil || pki.KindOf(err) != pki.KindInternal {
			t.Errorf("%s: %+v, %v", field, list, err)
		}
	}
}
