package rest_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// rule says which roles may call a method with a valid request. Every other role must be denied or, if the account
// decides, be told that the object does not exist.
type rule struct {
	request string // JSON; ISSUER, SERIAL, HASH, JOB and ID stand for what there is
	allowed string // roles
	absent  string // roles to which what is named does not exist
	open    bool   // no credential is required
}

const (
	everyone = "admin auditor requester approver"
	readers  = "admin auditor requester"
)

// rules has every method of every service: a method that is added stands here, or TestEveryMethodHasItsRule fails.
var rules = map[string]rule{
	"/grpc.health.v1.Health/Check": {allowed: everyone, open: true},
	"/grpc.health.v1.Health/List":  {allowed: everyone},
	"/grpc.health.v1.Health/Watch": {allowed: everyone},

	"/signet.v1.CertificateService/IssueCertificate":  {request: `{"csrDer":"AQ==","profile":"server"}`, allowed: "admin requester"},
	"/signet.v1.CertificateService/IssueCertificates": {request: `{"csrDer":"AQ==","profile":"server","requestId":"1"}`, allowed: "admin requester"},
	// The proof is the old certificate: no role allows it.
	"/signet.v1.CertificateService/RenewCertificate":   {request: `{"csrDer":"AQ=="}`, open: true},
	"/signet.v1.CertificateService/GetCertificate":     {request: `{"issuer":"ISSUER","serial":"SERIAL"}`, allowed: "admin auditor", absent: "requester"},
	"/signet.v1.CertificateService/ListProfiles":       {allowed: everyone},
	"/signet.v1.CertificateService/ReloadProfiles":     {allowed: "admin"},
	"/signet.v1.CertificateService/ListCertificates":   {request: `{"account":"pair"}`, allowed: "admin auditor"},
	"/signet.v1.CertificateService/CountCertificates":  {request: `{"account":"pair"}`, allowed: "admin auditor"},
	"/signet.v1.CertificateService/RevokeCertificate":  {request: `{"issuer":"ISSUER","serial":"SERIAL"}`, allowed: "admin"},
	"/signet.v1.CertificateService/HoldCertificate":    {request: `{"issuer":"ISSUER","serial":"SERIAL"}`, allowed: "admin"},
	"/signet.v1.CertificateService/ReleaseCertificate": {request: `{"issuer":"ISSUER","serial":"SERIAL"}`, allowed: "admin"},
	"/signet.v1.CertificateService/CheckCertificate":   {request: `{"certificateDer":"AQ=="}`, allowed: everyone},

	"/signet.v1.IssuerService/ListIssuers":     {allowed: readers},
	"/signet.v1.IssuerService/GetIssuer":       {request: `{"issuer":"ISSUER"}`, allowed: readers},
	"/signet.v1.IssuerService/GetIssuerBundle": {request: `{"issuer":"ISSUER"}`, allowed: readers},
	// Lists are public: this server has none.
	"/signet.v1.IssuerService/GetCrl":                  {request: `{"issuer":"ISSUER"}`, allowed: everyone},
	"/signet.v1.IssuerService/CreateIssuer":            {allowed: "admin"},
	"/signet.v1.IssuerService/ImportIssuerCertificate": {allowed: "admin"},
	"/signet.v1.IssuerService/CrossSignIssuer":         {allowed: "admin"},
	"/signet.v1.IssuerService/SetIssuerState":          {allowed: "admin"},
	"/signet.v1.IssuerService/AdoptIssuer":             {allowed: "admin"},
	"/signet.v1.IssuerService/RenewIssuer":             {allowed: "admin"},
	"/signet.v1.IssuerService/ChooseIssuerCertificate": {allowed: "admin"},
	"/signet.v1.IssuerService/UpdateIssuer":            {allowed: "admin"},
	"/signet.v1.IssuerService/DeleteIssuer":            {allowed: "admin"},
	"/signet.v1.IssuerService/ImportCrl":               {allowed: "admin"},

	"/signet.v1.RequestService/ListRequests":   {request: `{"account":"pair"}`, allowed: "admin auditor approver"},
	"/signet.v1.RequestService/GetRequest":     {request: `{"request":"ID"}`, allowed: "", absent: everyone},
	"/signet.v1.RequestService/ApproveRequest": {request: `{"request":"ID"}`, allowed: "", absent: everyone},
	"/signet.v1.RequestService/DenyRequest":    {request: `{"request":"ID","reason":"no"}`, allowed: "", absent: everyone},

	"/signet.v1.KeyService/BlockKey":        {request: `{"keyHash":"HASH","comment":"found"}`, allowed: "admin"},
	"/signet.v1.KeyService/ListBlockedKeys": {allowed: "admin auditor"},
	"/signet.v1.KeyService/GetBlockedKey":   {request: `{"keyHash":"HASH"}`, allowed: readers},

	"/signet.v1.JobService/PlanJob":   {allowed: "admin"},
	"/signet.v1.JobService/StartJob":  {request: `{"job":"ID"}`, allowed: "admin"},
	"/signet.v1.JobService/PauseJob":  {request: `{"job":"ID"}`, allowed: "admin"},
	"/signet.v1.JobService/ResumeJob": {request: `{"job":"ID"}`, allowed: "admin"},
	"/signet.v1.JobService/CancelJob": {request: `{"job":"ID"}`, allowed: "admin"},
	"/signet.v1.JobService/GetJob":    {request: `{"job":"ID"}`, allowed: "admin"},
	"/signet.v1.JobService/ListJobs":  {allowed: "admin"},

	"/signet.v1.CredentialService/CreateToken":       {request: `{"credential":"","role":"ROLE_ADMIN"}`, allowed: "admin"},
	"/signet.v1.CredentialService/BindCertificate":   {allowed: "admin"},
	"/signet.v1.CredentialService/GetCredential":     {request: `{"credential":"nobody"}`, allowed: "admin"},
	"/signet.v1.CredentialService/ListCredentials":   {allowed: "admin"},
	"/signet.v1.CredentialService/DisableCredential": {request: `{"credential":"nobody"}`, allowed: "admin"},
	"/signet.v1.CredentialService/WhoAmI":            {allowed: everyone},

	"/signet.v1.AuditService/ListAuditEvents": {allowed: "admin auditor"},
	"/signet.v1.AuditService/VerifyAuditLog":  {allowed: "admin auditor"},
}

// Every method that is served, each in every role and in none. The rule of a method is what a person decided, so a new
// one needs a line above.
func TestEveryMethodHasItsRule(t *testing.T) {
	h := newHouse(t)
	served := grpc.NewServer()
	h.api.Register(served)
	methods := map[string]grpc.MethodInfo{}
	for service, info := range served.GetServiceInfo() {
		for _, method := range info.Methods {
			methods["/"+service+"/"+method.Name] = method
		}
	}
	for name := range rules {
		if _, ok := methods[name]; !ok {
			t.Errorf("%s has a rule, and is not served", name)
		}
	}
	tokens := map[string]string{"": ""}
	for _, role := range []auth.Role{auth.RoleAdmin, auth.RoleAuditor, auth.RoleRequester, auth.RoleApprover} {
		tokens[role.String()] = h.token(auth.Spec{Name: role.String(), Role: role})
	}
	conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: h.roots})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	certificate := h.pair("server", 48*time.Hour, "a.example").Leaf
	names := strings.NewReplacer("ISSUER", h.issuing.ID.String(), "SERIAL", certificate.SerialNumber.Text(16), "HASH", strings.Repeat("0", 64), "ID", strings.Repeat("0", 32))
	for name, info := range methods {
		r, ok := rules[name]
		if !ok {
			t.Errorf("%s is served, and nobody has decided who may call it: write its rule", name)
			continue
		}
		for role, token := range tokens {
			want := codes.PermissionDenied
			switch {
			case r.open && r.allowed != "" || role != "" && strings.Contains(r.allowed, role):
				want = codes.OK // or any answer of the method itself
			case role == "" || r.open:
				want = codes.Unauthenticated // the role does not count
			case strings.Contains(r.absent, role):
				want = codes.NotFound
			}
			got := call(t, conn, name, info, token, names.Replace(r.request))
			refused := got == codes.PermissionDenied || got == codes.Unauthenticated || got == codes.Unimplemented
			if want == codes.OK && refused || want != codes.OK && got != want {
				t.Errorf("%s in role %q: %s, want %s", name, role, got, want)
			}
		}
	}
}

// call makes one call and returns how it was answered; an item of a stream is answered by its problem.
func call(t *testing.T, conn *grpc.ClientConn, name string, info grpc.MethodInfo, token, body string) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	service, method, _ := strings.Cut(name[1:], "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		t.Fatal(err)
	}
	descriptor := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	request, answer := newMessage(t, descriptor.Input()), newMessage(t, descriptor.Output())
	if body != "" {
		if err := protojson.Unmarshal([]byte(body), request); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if !info.IsClientStream && !info.IsServerStream {
		return status.Code(conn.Invoke(ctx, name, request, answer))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: info.IsClientStream, ServerStreams: info.IsServerStream}, name)
	if err != nil {
		return status.Code(err)
	}
	_ = stream.SendMsg(request) // the answer says why, if it was not taken
	if err := stream.RecvMsg(answer); err != nil {
		return status.Code(err)
	}
	if f := answer.ProtoReflect().Descriptor().Fields().ByName("problem"); f != nil && answer.ProtoReflect().Has(f) {
		problem := answer.ProtoReflect().Get(f).Message()
		if kind := problem.Get(problem.Descriptor().Fields().ByName("kind")).String(); kind == pki.KindDenied.String() {
			return codes.PermissionDenied
		}
	}
	return codes.OK
}

func newMessage(t *testing.T, of protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}
