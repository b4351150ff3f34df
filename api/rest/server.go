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

// Config says what a Server serves, and its bounds.
type Config struct {
	Services Services    // required
	TLS      *tls.Config // with the server's certificate; required. What it says of client certificates and protocols is overridden

	Connections  int           // most open connections, those that have not ended their TLS handshake included; zero: 4,096
	BodyTime     time.Duration // how long the body of a REST call, the bulk interface aside, may take to arrive; zero: 30 s
	StrangerTime time.Duration // how long the message of a caller without a credential may take to arrive, that of a health check 1 s at most; zero: 5 s
	Drain        time.Duration // how long calls in flight may go on after the end of Serve's context; zero: 10 s
}

// Server serves gRPC and REST on one TLS port. gRPC clients offer only HTTP/2, all others HTTP/1.1 too; on that the
// connections are split, so each side has the server that is made for it.
type Server struct {
	config Config
	grpc   *grpc.Server
	http   *http.Server
	tls    *tls.Config
}

// NewServer makes a server. It serves once.
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
		// Goroutines that are kept: to issue is a deep call, and a new one grows its stack for it, copying it each time.
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
		WriteTimeout:      15 * time.Minute, // the slowest call, and some; the bulk interface lifts it
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	return s, nil
}

// route lets gRPC clients in that also offered HTTP/1.1: slower, and it works.
func route(g *grpc.Server, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// Serve serves connections of the listener until ctx ends; then it lets calls in flight end, for at most Config.Drain,
// and returns nil. An error means that the listener broke.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	listener = netutil.LimitListener(listener, s.config.Connections)
	forGRPC, forHTTP := newQueue(listener.Addr()), newQueue(listener.Addr())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.grpc.Serve(forGRPC) }) // ends with Stop, without news
	serving.Go(func() { _ = s.http.Serve(forHTTP) }) // ends with Shutdown, without news
	defer serving.Wait()
	defer s.stop()
	stopAccepting := context.AfterFunc(ctx, func() { _ = listener.Close() }) // Accept tells
	defer stopAccepting()
	defer listener.Close()

	// Handshakes have no bound of their own: the few places would belong to whoever connects, and then says nothing.
	for {
		connection, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// No descriptor left, or the client was gone already: the next one may do better.
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
					_, _ = io.WriteString(connection, plainAnswer) // it may be gone
				}
				_ = connection.Close() // it was never more than an attempt
			case native:
				forGRPC.put(secured)
			default:
				forHTTP.put(secured)
			}
		}()
	}
}

// plainAnswer is for whoever forgot the s of https.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis port speaks HTTPS: write https:// and name root.pem as the authority (curl --cacert root.pem)\n"

// isHTTP reports whether what came instead of a TLS record begins a request.
func isHTTP(header [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO"}, string(header[:]))
}

// stop lets calls in flight end.
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

// handshake ends TLS and reports whether the client speaks nothing but HTTP/2, as gRPC clients do.
func (s *Server) handshake(ctx context.Context, connection net.Conn) (secured *tls.Conn, native bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, nativeKey{}, &native), 10*time.Second)
	defer cancel()
	secured = tls.Server(connection, s.tls)
	err = secured.HandshakeContext(ctx)
	return secured, native, err
}

type nativeKey struct{}

// serverTLS prepares the one configuration of all connections: session tickets work across them.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	// A client certificate is asked for and judged with each call, by auth.Authenticator: TLS would judge it once, and
	// could only end the connection without a word. TLS still proves that the client has the key.
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

// handshaked hands an already completed TLS handshake to grpc-go.
type handshaked struct{}

// ServerHandshake says what the handshake found.
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

// queue is a listener that is fed by hand.
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

// Addr is that of the real listener.
func (q *queue) Addr() net.Addr { return q.addr }

func (q *queue) put(c net.Conn) {
	select {
	case q.connections <- c:
	case <-q.done:
		_ = c.Close() // the server ends
	}
}
