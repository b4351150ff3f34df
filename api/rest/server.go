package rest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Config says what a Server serves, and its limits.
type Config struct {
	Services Services // required
	// TLS has the server's certificate. Required. Its settings for client certificates and protocols are overridden.
	TLS *tls.Config

	// Connections is the largest number of open connections, including those in the TLS handshake. Zero: 4,096.
	Connections int
	// BodyTime is how long the body of a REST call may take to arrive, except at the bulk interface. Zero: 30 s.
	BodyTime time.Duration
	// StrangerTime is how long the message of a caller without a credential may take to arrive; that of a health check
	// has 1 s at most. Zero: 5 s.
	StrangerTime time.Duration
	// Drain is how long calls in progress may continue after Serve's context has ended. Zero: 10 s.
	Drain time.Duration
}

// Server serves gRPC and REST on one TLS port. gRPC clients offer only HTTP/2, all others HTTP/1.1 too. Connections are
// split by that, so that the server on each side is made for it.
type Server struct {
	config Config
	grpc   *grpc.Server
	http   *http.Server
	tls    *tls.Config
}

// NewServer returns a Server. It can serve once.
func NewServer(c Config) (*Server, error) {
	if c.Services == nil || c.TLS == nil {
		return nil, errors.New("make API server: services and a TLS configuration are required")
	}
	c.Connections = cmp.Or(c.Connections, 4096)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	c.BodyTime = cmp.Or(c.BodyTime, 30*time.Second)
	c.StrangerTime = cmp.Or(c.StrangerTime, 5*time.Second)
	api, err := newGateway(c.Services, c.BodyTime, c.StrangerTime)
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, tls: serverTLS(c.TLS)}
	s.grpc = grpc.NewServer(
		grpc.Creds(handshaked{}),
		grpc.StreamInterceptor(streams(c.Services)),
		grpc.MaxRecvMsgSize(maxLargeBody),
		grpc.MaxConcurrentStreams(256),
		// These goroutines are kept: issuing is a deep call, for which a new goroutine would grow its stack, copying it
		// each time.
		grpc.NumStreamWorkers(128),
		grpc.MaxHeaderListSize(64<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 30 * time.Second, PermitWithoutStream: true}),
	)
	c.Services.Register(early{s.grpc, c.Services, c.StrangerTime})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	s.http = &http.Server{
		Protocols:         protocols,
		Handler:           route(s.grpc, api),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      15 * time.Minute, // more than the slowest call needs; the bulk interface removes it
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	return s, nil
}

// route admits gRPC clients that also offered HTTP/1.1. That is slower, but works.
func route(g *grpc.Server, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// Serve serves connections of the listener until ctx ends. Then it lets calls in progress finish, for at most
// Config.Drain, and returns nil. The error is that of a broken listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	listener = netutil.LimitListener(listener, s.config.Connections)
	forGRPC, forHTTP := newQueue(listener.Addr()), newQueue(listener.Addr())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.grpc.Serve(forGRPC) }) // ends with Stop; the error says nothing more
	serving.Go(func() { _ = s.http.Serve(forHTTP) }) // ends with Shutdown; the error says nothing more
	defer serving.Wait()
	defer s.stop()
	stopAccepting := context.AfterFunc(ctx, func() { _ = listener.Close() }) // Accept returns the error
	defer stopAccepting()
	defer listener.Close()

	// Handshakes have no bound of their own: clients that connect and stay silent would occupy its few places.
	for {
		connection, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// There is no descriptor left, or the client has disconnected: the next one may succeed.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		go func() {
			secured, native, err := s.handshake(ctx, connection)
			switch {
			case err != nil:
				if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && isHTTP(e.RecordHeader) {
					_, _ = io.WriteString(connection, plainAnswer) // the client may have disconnected
				}
				_ = connection.Close() // the connection was never served
			case native:
				forGRPC.put(secured)
			default:
				forHTTP.put(secured)
			}
		}()
	}
}

// plainAnswer answers clients that use http instead of https.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n" +
	"this port speaks HTTPS: write https:// and name root.pem as the authority (curl --cacert root.pem)\n"

// isHTTP reports whether the octets in place of a TLS record begin an HTTP request.
func isHTTP(header [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO"}, string(header[:]))
}

// stop lets calls in progress finish.
func (s *Server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() {
		graceful := make(chan struct{})
		go func() { defer close(graceful); s.grpc.GracefulStop() }() // waits for handlers, for ever if they hang
		select {
		case <-graceful:
		case <-ctx.Done():
			s.grpc.Stop()
		}
	})
	both.Go(func() {
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close() // time is up
		}
	})
	both.Wait()
}

// handshake performs the TLS handshake. native is true if the client offered only HTTP/2, as gRPC clients do.
func (s *Server) handshake(ctx context.Context, connection net.Conn) (secured *tls.Conn, native bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, nativeKey{}, &native), 10*time.Second)
	defer cancel()
	secured = tls.Server(connection, s.tls)
	err = secured.HandshakeContext(ctx)
	return secured, native, err
}

type nativeKey struct{}

// serverTLS returns the one configuration of all connections, so that session tickets work across them.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	// A client certificate is requested here and judged by auth.Authenticator with each call. TLS would judge it only
	// once, and could only close the connection without an explanation. TLS does prove that the client has the key.
	c.ClientAuth, c.ClientCAs = tls.RequestClientCert, nil
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if native, ok := hello.Context().Value(nativeKey{}).(*bool); ok {
			*native = slices.Contains(hello.SupportedProtos, "h2") && !slices.Contains(hello.SupportedProtos, "http/1.1")
		}
		if inner != nil {
			return inner(hello)
		}
		return nil, nil
	}
	return c
}

// handshaked passes a completed TLS handshake to grpc-go.
type handshaked struct{}

// ServerHandshake returns the results of the handshake.
func (handshaked) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	return c, credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// ClientHandshake is not used.
func (handshaked) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server only")
}

// Info describes the transport.
func (handshaked) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns a copy.
func (h handshaked) Clone() credentials.TransportCredentials { return h }

// OverrideServerName is not used.
func (handshaked) OverrideServerName(string) error { return nil }

// queue is a listener that receives its connections from Serve.
type queue struct {
	connections chan net.Conn
	done        chan struct{}
	once        sync.Once
	addr        net.Addr
}

func newQueue(addr net.Addr) *queue {
	return &queue{connections: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

// Accept returns the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.connections:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr returns the address of the real listener.
func (q *queue) Addr() net.Addr { return q.addr }

func (q *queue) put(c net.Conn) {
	select {
	case q.connections <- c:
	case <-q.done:
		_ = c.Close() // the server is stopping
	}
}
