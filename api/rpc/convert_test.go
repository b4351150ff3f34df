package rpc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/rpc"
	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

var at = time.Date(2026, 11, 21, 1, 2, 3, 4000, time.UTC)

// selfSigned is a certificate with a name of every type.
func selfSigned(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "x"}, NotBefore: at, NotAfter: at.AddDate(1, 0, 0),
		DNSNames: []string{"a.example", "*.b.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
		EmailAddresses: []string{"me@a.example"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "a.example", Path: "/x"}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, crypto.PublicKey(key.Public()), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// complete fails for every field of a message, and of the messages in it, that is not set.
func complete(t *testing.T, m proto.Message, except ...protoreflect.Name) {
	t.Helper()
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		skip := false
		for _, name := range except {
			skip = skip || name == f.Name()
		}
		if !skip && !r.Has(f) {
			t.Errorf("%s is not set", f.FullName())
		}
	}
}

// matters fails for every field of a struct that a conversion does not look at: each is changed alone, and the result
// must change too.
func matters[T any](t *testing.T, value T, convert func(T) any, except ...string) {
	t.Helper()
	before := convert(value)
	for i := range reflect.TypeFor[T]().NumField() {
		f := reflect.TypeFor[T]().Field(i)
		changed := value
		skip := !f.IsExported()
		for _, name := range except {
			skip = skip || name == f.Name
		}
		if skip {
			continue
		}
		field := reflect.ValueOf(&changed).Elem().Field(i)
		if field.IsZero() {
			t.Errorf("the test leaves %s zero", f.Name)
		}
		field.SetZero()
		if same(before, convert(changed)) {
			t.Errorf("%s.%s is lost", reflect.TypeFor[T]().Name(), f.Name)
		}
	}
}

func same(a, b any) bool {
	if m, ok := a.(proto.Message); ok {
		return proto.Equal(m, b.(proto.Message))
	}
	return reflect.DeepEqual(a, b)
}

// everyField fails for every field of a request that a conversion does not look at.
func everyField(t *testing.T, m proto.Message, convert func(proto.Message) (any, error), except ...protoreflect.Name) {
	t.Helper()
	complete(t, m, except...)
	before, err := convert(m)
	if err != nil {
		t.Fatal(err)
	}
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		changed := proto.Clone(m)
		changed.ProtoReflect().Clear(f)
		after, err := convert(changed)
		for _, name := range except {
			if name == f.Name() {
				return true
			}
		}
		if err == nil && same(before, after) {
			t.Errorf("%s is lost", f.FullName())
		}
		return true
	})
}

func TestCertificateTo(t *testing.T) {
	der := selfSigned(t)
	c := inventory.Certificate{Issuer: pki.IssuerID{1}, Serial: pki.Serial{2}, Profile: "server", Account: "web", Subject: "CN=x", KeyHash: pki.KeyHash{3},
		NotBefore: at, NotAfter: at.Add(time.Hour), IssuedAt: at.Add(time.Minute), DER: der}
	revoked := revocation.Answer{Status: pki.StatusRevoked, Reason: pki.KeyCompromise, RevokedAt: at, InvalidityAt: at.Add(-time.Hour), EventSeq: 7}
	m := rpc.CertificateTo(c, revoked)
	complete(t, m)
	complete(t, m.GetRevocation())
	// Told by the serial.
	matters(t, c, func(c inventory.Certificate) any { return rpc.CertificateTo(c, revoked) }, "Position")
	want := []string{"dns:a.example", "dns:*.b.example", "email:me@a.example", "ip:192.0.2.1", "ip:2001:db8::1", "uri:spiffe://a.example/x"}
	if !reflect.DeepEqual(m.GetIdentifiers(), want) {
		t.Errorf("identifiers %v, want %v", m.GetIdentifiers(), want)
	}
	for _, text := range m.GetIdentifiers() {
		if id, err := pki.ParseIdentifier(text); err != nil || id.String() != text {
			t.Errorf("%s reads back as %v, %v", text, id, err)
		}
	}
	if m.GetIssuedAt().AsTime() != c.IssuedAt || m.GetIssuer() != "01000000000000000000" || len(m.GetSerial()) != 40 {
		t.Errorf("%v", m)
	}
}

// What stands for crypto/x509 and encoding/pem says the same as they do, and survives every cut.
func TestNamesAndPEM(t *testing.T) {
	der := selfSigned(t)
	for i := range der {
		if names := rpc.IdentifiersTo(der[:i]); names != nil {
			t.Errorf("%d octets of %d have the names %v", i, len(der), names)
		}
	}
	for _, size := range []int{0, 1, 47, 48, 49, 95, 96, 97, len(der)} {
		want := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[:size]})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if got := rpc.PEMTo(der[:size], [][]byte{der}); got != want {
			t.Errorf("%d octets:\n%s\nwant\n%s", size, got, want)
		}
	}
}

func TestStatusTo(t *testing.T) {
	for _, test := range []struct {
		answer revocation.Answer
		want   signetv1.CertificateStatus
		facts  bool
	}{
		{revocation.Answer{}, signetv1.CertificateStatus_CERTIFICATE_STATUS_UNSPECIFIED, false},
		{revocation.Answer{Status: pki.StatusGood}, signetv1.CertificateStatus_CERTIFICATE_STATUS_GOOD, false},
		{revocation.Answer{Status: pki.StatusNotIssued}, signetv1.CertificateStatus_CERTIFICATE_STATUS_UNSPECIFIED, false},
		{revocation.Answer{Status: pki.StatusStale}, signetv1.CertificateStatus_CERTIFICATE_STATUS_UNSPECIFIED, false},
		{revocation.Answer{Status: pki.StatusRevoked}, signetv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED, true},
		{revocation.Answer{Status: pki.StatusRevoked, Reason: pki.CertificateHold}, signetv1.CertificateStatus_CERTIFICATE_STATUS_ON_HOLD, true},
	} {
		got, facts := rpc.StatusTo(test.answer)
		if got != test.want || (facts != nil) != test.facts {
			t.Errorf("%+v: %v, %v", test.answer, got, facts)
		}
	}
}

func TestCredentialTo(t *testing.T) {
	c := auth.Credential{Name: "a", Kind: auth.KindCertificateName, Role: auth.RoleAdmin, Account: "b", Profiles: []string{"c"}, Issuer: pki.IssuerID{1},
		Identifier: pki.Identifier{Type: pki.DNS, Value: "d"}, KeyHash: pki.KeyHash{2}, Digest: auth.Digest{3}, CreatedAt: at, CreatedBy: "e", ExpiresAt: at, DisabledAt: at}
	complete(t, rpc.CredentialTo(c))
	// A secret's digest stays inside.
	matters(t, c, func(c auth.Credential) any { return rpc.CredentialTo(c) }, "Digest")
}

func TestAuditEventTo(t *testing.T) {
	e := audit.Event{Seq: 1, At: at, Actor: "a", Action: "b", Target: "c", Outcome: audit.Refused, RequestID: "d", Source: "e", Detail: map[string]string{"f": "g"}}
	complete(t, rpc.AuditEventTo(e))
	matters(t, e, func(e audit.Event) any { return rpc.AuditEventTo(e) })
}

func TestIssuerTo(t *testing.T) {
	der := selfSigned(t)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	i := ca.Issuer{ID: pki.IssuerID{1}, Label: "a", KeyURI: "softkey:a", Subject: parsed.RawSubject, SPKI: parsed.RawSubjectPublicKeyInfo, KeyHash: pki.KeyHash{2},
		Visibility: ca.Public, State: ca.IssuerActive, Foreign: true, BaseURL: "http://a", CSR: []byte{1}, Succeeds: pki.IssuerID{3}, CreatedAt: at, Retention: pki.Retention{Keep: time.Hour, Since: at},
		Certificates: []ca.IssuerCertificate{{DER: der, NotAfter: at, Chosen: true, AddedAt: at}}}
	m, err := rpc.IssuerTo(i, pki.Errorf(pki.KindFailedPrecondition, "use issuer", "it is revoked").InField("issuer"))
	if err != nil {
		t.Fatal(err)
	}
	complete(t, m)
	if unknown, err := rpc.IssuerTo(i, errors.New("no answer")); err != nil || unknown.GetUnusableReason() != "it cannot be determined now: no answer" || m.GetUnusableReason() != "it is revoked" {
		t.Errorf("%q and %q: %v", m.GetUnusableReason(), unknown.GetUnusableReason(), err)
	}
	if !m.GetRoot() || m.GetKeyType() != "ECDSA P-256" || !m.GetOnline() {
		t.Errorf("%v", m)
	}
	matters(t, i, func(i ca.Issuer) any {
		m, err := rpc.IssuerTo(i, nil)
		if err != nil {
			return err
		}
		return m
	}, "Subject", "CSR", "CreatedAt", "SPKI") // told by the certificate, or of no use to a caller; a key that is missing is an error
	i.SPKI = nil
	if _, err := rpc.IssuerTo(i, nil); err == nil {
		t.Error("an issuer without a key was converted")
	}
}

func TestRequestsFrom(t *testing.T) {
	subject := signetv1.Subject_builder{CommonName: new("a"), Organization: []string{"b"}, OrganizationalUnit: []string{"c"}, Country: []string{"d"}, Province: []string{"e"},
		Locality: []string{"f"}, SerialNumber: new("g")}.Build()
	issue := signetv1.IssueCertificateRequest_builder{CsrDer: []byte{1}, Profile: new("server"), Identifiers: []string{"a.example"}, Lifetime: durationpb.New(time.Hour),
		NotAfter: timestamppb.New(at), Issuer: new("01000000000000000000"), RequestId: new("r"), Subject: subject}.Build()
	convert := func(m proto.Message) (any, error) {
		return rpc.IssueRequestFrom("test", m.(*signetv1.IssueCertificateRequest))
	}
	everyField(t, issue, convert, "csr_pem")
	everyField(t, subject, func(m proto.Message) (any, error) {
		changed := proto.Clone(issue).(*signetv1.IssueCertificateRequest)
		changed.SetSubject(m.(*signetv1.Subject))
		return convert(changed)
	})

	stamp := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(at.Add(d)) }
	list := signetv1.ListCertificatesRequest_builder{Serial: new("0a"), KeyHash: new(pki.KeyHash{1}.String()),
		Issuer: new("01000000000000000000"), Profile: new("p"), Account: new("q"), NotAccount: new("s"), Standing: signetv1.Standing_STANDING_EXPIRED.Enum(), ExpiresFrom: stamp(1), ExpiresUntil: stamp(2),
		IssuedFrom: stamp(3), IssuedUntil: stamp(4), PageSize: new(uint32(5)), PageToken: new("t")}.Build()
	filter := func(m proto.Message) (any, error) {
		return rpc.FilterFrom("test", m.(*signetv1.ListCertificatesRequest), at)
	}
	list.SetIdentifier("dns:a.example") // it is by one of these names
	// Those of the page are read by the service.
	everyField(t, list, filter, "dns_suffix", "common_name", "page_size", "page_token")
	list.ClearIdentifier()
	list.SetDnsSuffix("example")
	everyField(t, list, filter, "identifier", "common_name", "page_size", "page_token")
	list.ClearDnsSuffix()
	list.SetCommonName("a")
	everyField(t, list, filter, "identifier", "dns_suffix", "page_size", "page_token")

	token := signetv1.CreateTokenRequest_builder{Credential: new("a"), Role: signetv1.Role_ROLE_ADMIN.Enum(), Account: new("b"), Profiles: []string{"c"}, Lifetime: durationpb.New(time.Hour)}.Build()
	everyField(t, token, func(m proto.Message) (any, error) { return rpc.SpecFrom("test", m.(*signetv1.CreateTokenRequest)) })
}

func TestEnumsFrom(t *testing.T) {
	rejected := func(what string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*pki.Error](err); !ok || e.Kind != pki.KindInvalid || e.Field == "" {
			t.Errorf("%s: %v, want an invalid field", what, err)
		}
	}
	for n := int32(-1); n < 300; n++ {
		reason, err := rpc.ReasonFrom("test", signetv1.Reason(n))
		if _, known := signetv1.Reason_name[n]; !known {
			rejected("an unknown reason", err)
		} else if err != nil || int32(reason) != n || !reason.Valid() {
			t.Errorf("reason %d: %v, %v", n, reason, err)
		}
		role, err := rpc.RoleFrom("test", signetv1.Role(n))
		if _, known := signetv1.Role_name[n]; !known || n == 0 {
			rejected("an unknown role", err)
		} else if err != nil || int32(rpc.RoleTo(role)) != n {
			t.Errorf("role %d: %v, %v", n, role, err)
		}
		if _, err := rpc.StandingFrom("test", signetv1.Standing(n)); signetv1.Standing_name[n] == "" {
			rejected("an unknown standing", err)
		} else if err != nil {
			t.Errorf("standing %d: %v", n, err)
		}
		if _, err := rpc.WaitFrom("test", signetv1.WaitFor(n)); signetv1.WaitFor_name[n] == "" {
			rejected("an unknown wait", err)
		} else if err != nil {
			t.Errorf("wait %d: %v", n, err)
		}
	}
	// Every reason that a certificate can be revoked for has its number in the API.
	for r := range 256 {
		reason := pki.Reason(r)
		if _, known := signetv1.Reason_name[int32(r)]; known != (reason.Valid() && reason != pki.RemoveFromCRL) {
			t.Errorf("reason %s: in the API %v", reason, known)
		}
	}
	for state := ca.IssuerPending; state <= ca.IssuerRetired; state++ {
		if rpc.IssuerStates[state] == signetv1.IssuerState_ISSUER_STATE_UNSPECIFIED {
			t.Errorf("issuer state %s has no word in the API", state)
		}
	}
}

// A list is by one name at most, of which only the common name can be anything.
func TestOneNameOfAList(t *testing.T) {
	release, app, domain := "Release 7", "app.example", "example"
	m := signetv1.ListCertificatesRequest_builder{CommonName: &release}.Build()
	if f, err := rpc.FilterFrom("list", m, at); err != nil || f.Name != release || !f.OfSubject {
		t.Errorf("%+v, %v", f, err)
	}
	for field, m := range map[string]*signetv1.ListCertificatesRequest{
		"identifier":  signetv1.ListCertificatesRequest_builder{Identifier: &release}.Build(),
		"dns_suffix":  signetv1.ListCertificatesRequest_builder{Identifier: &app, DnsSuffix: &domain}.Build(),
		"common_name": signetv1.ListCertificatesRequest_builder{Identifier: &app, CommonName: &release}.Build(),
	} {
		_, err := rpc.FilterFrom("list", m, at)
		if e, ok := err.(*pki.Error); !ok || e.Kind != pki.KindInvalid || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	m = signetv1.ListCertificatesRequest_builder{DnsSuffix: &domain, CommonName: &release}.Build()
	if _, err := rpc.FilterFrom("list", m, at); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("a suffix and a common name: %v", err)
	}
}

// A suffix is a domain, or with @ before it the mailboxes of one.
func TestSuffixOfMailboxes(t *testing.T) {
	for text, want := range map[string]string{"Mail.example": "mail.example", "@Mail.example": "@mail.example"} {
		m := signetv1.ListCertificatesRequest_builder{DnsSuffix: &text}.Build()
		if f, err := rpc.FilterFrom("list", m, at); err != nil || f.NameSuffix != want {
			t.Errorf("%s: %q, %v; want %q", text, f.NameSuffix, err, want)
		}
	}
	for _, text := range []string{"@", "@@mail.example", "a@mail.example", "@192.0.2.7"} {
		m := signetv1.ListCertificatesRequest_builder{DnsSuffix: &text}.Build()
		if f, err := rpc.FilterFrom("list", m, at); pki.KindOf(err) != pki.KindInvalid || err == nil {
			t.Errorf("%s: %q, %v", text, f.NameSuffix, err)
		}
	}
}
