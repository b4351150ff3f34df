// Package rest serves the API: REST under /v1/, the OpenAPI description, and gRPC beside them on one TLS port. REST
// calls enter the same interceptors and services as gRPC calls, over an in-process connection.
package rest

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/openapi"
	"signet.example/signet/api/signetv1"
)

// Services are the services to be served: package rpc.
type Services interface {
	Register(grpc.ServiceRegistrar)
	Admit(ctx context.Context, method string) (arrived func(), known bool, err error)
	Unread(ctx context.Context, method, why string) (id string)
	Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error)
	Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error
}

const requestIDHeader = "X-Request-Id"

// newGateway returns the REST interface of the services.
func newGateway(services Services, bodyTime, strangerTime time.Duration) (*gateway, error) {
	channel := new(inprocgrpc.Channel)
	channel.WithServerUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return services.Unary(withPeer(ctx), request, info, handler)
	})
	channel.WithServerStreamInterceptor(func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return services.Stream(service, &peerStream{stream, withPeer(stream.Context())}, info, handler)
	})
	services.Register(channel)

	served, err := methodsOf(openapi.JSON)
	if err != nil {
		return nil, err
	}
	strictQueries()
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: newMarshaler()}),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) { return strings.ToLower(name), name == requestIDHeader }),
		runtime.WithOutgoingHeaderMatcher(func(name string) (string, bool) { return requestIDHeader, strings.EqualFold(name, requestIDHeader) }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithErrorHandler(writeError),
		runtime.WithForwardResponseOption(accepted),
		runtime.WithRoutingErrorHandler(served.writeRoutingError),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithHealthzEndpoint(healthv1.NewHealthClient(channel)),
	)
	ctx := context.Background() // for registration; calls have contexts of their own
	for _, err := range []error{
		signetv1.RegisterCertificateServiceHandlerClient(ctx, mux, signetv1.NewCertificateServiceClient(channel)),
		signetv1.RegisterIssuerServiceHandlerClient(ctx, mux, signetv1.NewIssuerServiceClient(channel)),
		signetv1.RegisterRequestServiceHandlerClient(ctx, mux, signetv1.NewRequestServiceClient(channel)),
		signetv1.RegisterKeyServiceHandlerClient(ctx, mux, signetv1.NewKeyServiceClient(channel)),
		signetv1.RegisterJobServiceHandlerClient(ctx, mux, signetv1.NewJobServiceClient(channel)),
		signetv1.RegisterCredentialServiceHandlerClient(ctx, mux, signetv1.NewCredentialServiceClient(channel)),
		signetv1.RegisterAuditServiceHandlerClient(ctx, mux, signetv1.NewAuditServiceClient(channel)),
		// Registered after the generated handler of the same path, this one takes precedence.
		mux.HandlePath(http.MethodPost, "/v1/certificates:issue", newBulk(services, mux, signetv1.NewCertificateServiceClient(channel)).serve),
		mux.HandlePath(http.MethodGet, "/openapi.json", serveOpenAPI),
	} {
		if err != nil {
			return nil, err
		}
	}
	return &gateway{services, mux, bodyTime, strangerTime, time.Now}, nil
}

// gateway bounds bodies, requires a credential before it reads a body, and passes on the peer of the connection.
type gateway struct {
	services     Services
	mux          *runtime.ServeMux
	bodyTime     time.Duration // how long a body may take to arrive
	strangerTime time.Duration // the same, for a caller without a credential
	now          func() time.Time
}

// ServeHTTP serves one request.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store") // answers depend on the caller, and some hold secrets
	header.Set("X-Content-Type-Options", "nosniff")
	e := &exchange{peer: peerOf(r)}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)) // a copy
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // net/http omits the body
	}
	if !jsonBody(r) {
		g.hurry(w, r)
		writeProblem(w, r, problem{Status: http.StatusUnsupportedMediaType, Kind: "invalid", Detail: "the body must be JSON",
			Hint: "send Content-Type: application/json"})
		return
	}
	if limit := limitOf(r.URL.Path); r.Method == http.MethodPost && !limit.lines {
		patience := g.bodyTime
		if limit.stranger {
			patience = g.strangerTime
		}
		method := cmp.Or(limit.method, "POST "+r.URL.Path) // for the log; the multiplexer has not yet found the method
		arrived, _, err := g.services.Admit(presented(r, e.peer), method)
		if err != nil {
			g.hurry(w, r)
			writeError(r.Context(), g.mux, nil, w, r, err)
			return
		}
		e.unread = func(p *problem) { p.RequestID = g.services.Unread(presented(r, e.peer), method, p.blame()) }
		r.Body = bounded(w, r, limit.most, patience, e, arrived)
		defer r.Body.Close()
	}
	if r.Method != http.MethodPost {
		g.hurry(w, r)
	}
	g.mux.ServeHTTP(w, r)
}

// hurry sets the deadline of strangerTime for a body that is not read: net/http reads some of it before it sends the
// answer, and removes the deadline before the next request.
func (g *gateway) hurry(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// If deadlines are not supported, nothing waits for the body.
		_ = http.NewResponseController(w).SetReadDeadline(g.now().Add(g.strangerTime))
	}
}

// presented returns the context of a gRPC call with the credential of a request and the id that the client chose.
func presented(r *http.Request, p *peer.Peer) context.Context {
	md := metadata.MD{}
	for _, name := range []string{"Authorization", requestIDHeader} {
		md.Set(name, r.Header.Values(name)...)
	}
	return metadata.NewIncomingContext(peer.NewContext(r.Context(), p), md)
}

// jsonBody reports whether a body, if there is one, is declared as JSON. A browser sends such a request to another site
// only after asking that site. So a page elsewhere cannot make a browser with a client certificate act here.
func jsonBody(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return true
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/json", "application/x-ndjson":
		return true
	}
	return false
}

// exchange is what the handlers of one HTTP request share.
type exchange struct {
	peer    *peer.Peer
	failure *problem       // what is wrong with the body, in more detail than the gateway has
	unread  func(*problem) // reports it to the services
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	if e == nil {
		return &exchange{}
	}
	return e
}

// withPeer gives a call the peer of the HTTP request that it came from. The in-process connection does not carry
// context values.
func withPeer(ctx context.Context) context.Context {
	if client := inprocgrpc.ClientContext(ctx); client != nil {
		if p := exchangeOf(client).peer; p != nil {
			return peer.NewContext(ctx, p)
		}
	}
	return ctx
}

type peerStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *peerStream) Context() context.Context { return s.ctx }

// peerOf returns the other end of the connection, with its TLS client certificate if it presented one.
func peerOf(r *http.Request) *peer.Peer {
	p := &peer.Peer{Addr: &net.TCPAddr{}}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.Addr = net.TCPAddrFromAddrPort(addr)
	}
	state := tls.ConnectionState{}
	if r.TLS != nil {
		state = *r.TLS
	}
	p.AuthInfo = credentials.TLSInfo{State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	return p
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(openapi.JSON) // the client may have disconnected
}

// accepted sets status 202 for a request that was filed and waits for an approval.
func accepted(_ context.Context, w http.ResponseWriter, m proto.Message) error {
	if answer, ok := m.(interface{ HasPending() bool }); ok && answer.HasPending() {
		w.WriteHeader(http.StatusAccepted)
	}
	return nil
}
