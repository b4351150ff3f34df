// Package client is the Go client of a Signet server. It speaks gRPC and takes and gives plain Go values: protobuf
// stays inside. An answer marshals to the JSON that the REST interface gives.
//
// A method with a plural name, such as Certificates, takes a Page and returns that part of the list, a List; its twin,
// AllCertificates, returns the whole list, page by page. Issuers and Profiles are few and come whole. A change is in
// force when its call returns; with WaitPublished the call returns when every live instance has published it too.
// Examples are in example_test.go.
//
// Errors of calls, and of New, are *pki.Error with the server's kind, field and hint, so that a caller can act on them.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// maxAnswer bounds one answer of the server; the largest is a CRL.
const maxAnswer = 64 << 20

// Config configures a Client: which server to call, and how to authenticate.
type Config struct {
	Address     string           // "host:port", or the URL of the REST interface; required
	Roots       *x509.CertPool   // the only trust anchors for the server's certificate; required
	RootsFrom   string           // what errors call Roots, such as the name of a file; zero: "the root certificates given"
	ServerName  string           // name in the server's certificate; zero: the host of Address
	Token       string           // bearer token; zero: none
	Certificate *tls.Certificate // TLS client certificate; nil: none
	Timeout     time.Duration    // of a call whose context has no deadline; zero: 30 s
	Now         func() time.Time // dates the proofs of Renew; nil: time.Now
}

// Client calls one server over one connection. The first call opens the connection, and a later one opens it again
// after it broke. It is safe for concurrent use.
type Client struct {
	connection   *grpc.ClientConn
	certificates signetv1.CertificateServiceClient
	issuers      signetv1.IssuerServiceClient
	keys         signetv1.KeyServiceClient
	jobs         signetv1.JobServiceClient
	requests     signetv1.RequestServiceClient
	credentials  signetv1.CredentialServiceClient
	audit        signetv1.AuditServiceClient
	timeout      time.Duration
	address      string
	rootsFrom    string
	made         *connected
	now          func() time.Time
}

// connected holds the outcome of connecting to the server. It is safe for concurrent use.
type connected struct {
	once   atomic.Bool           // a TLS connection was made
	failed atomic.Pointer[error] // why the last TLS handshake failed; nil: none did
}

// ErrNotReached is wrapped by the error of a call if no connection to the server was ever made: nothing was sent, and
// nothing happened.
var ErrNotReached = errors.New("the server was not reached")

// watched records that a TLS connection was made, or why not.
type watched struct {
	credentials.TransportCredentials
	made *connected
}

// ClientHandshake is called by gRPC for every connection.
func (w watched) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err == nil {
		w.made.once.Store(true)
		w.made.failed.Store(nil)
	} else {
		w.made.failed.Store(&err)
	}
	return conn, info, err
}

// Clone is called by gRPC.
func (w watched) Clone() credentials.TransportCredentials {
	return watched{w.TransportCredentials.Clone(), w.made}
}

// New makes a Client. It does not connect yet.
func New(c Config) (*Client, error) {
	const op = "reach the server"
	address := strings.TrimSuffix(strings.TrimPrefix(c.Address, "https://"), "/")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%q is no address", c.Address).InField("server").WithHint("write HOST:PORT, such as ca.example:8443")
	}
	if c.Token != "" && !oneWord(c.Token) {
		return nil, pki.Errorf(pki.KindInvalid, op, "the token is not one word").InField("token").WithHint("ReadToken takes the end of its line away")
	}
	if c.Roots == nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "there are no root certificates to check it by").InField("roots").WithHint("ReadRoots reads them from a file")
	}
	transport := &tls.Config{RootCAs: c.Roots, ServerName: c.ServerName, MinVersion: tls.VersionTLS13}
	if c.Certificate != nil {
		transport.Certificates = []tls.Certificate{*c.Certificate}
	}
	made := new(connected)
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(watched{credentials.NewTLS(transport), made}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.WithDisableServiceConfig(),
	}
	if c.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(c.Token)))
	}
	connection, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Field: "server", Err: err}
	}
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{
		connection:   connection,
		certificates: signetv1.NewCertificateServiceClient(connection),
		issuers:      signetv1.NewIssuerServiceClient(connection),
		keys:         signetv1.NewKeyServiceClient(connection),
		jobs:         signetv1.NewJobServiceClient(connection),
		requests:     signetv1.NewRequestServiceClient(connection),
		credentials:  signetv1.NewCredentialServiceClient(connection),
		audit:        signetv1.NewAuditServiceClient(connection),
		timeout:      c.Timeout,
		address:      address,
		rootsFrom:    cmp.Or(c.RootsFrom, "the root certificates given"),
		made:         made,
		now:          c.Now,
	}, nil
}

// Close closes the connection. Calls in flight fail.
func (c *Client) Close() error { return c.connection.Close() }

// ReadRoots reads a PEM bundle of root certificates of at most 1 MiB.
func ReadRoots(path string) (*x509.CertPool, error) {
	text, err := readBounded(path, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read root certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read root certificates: %s holds no PEM certificate", path)
	}
	return pool, nil
}

// ReadToken reads a bearer token from a file and removes white space around it. The token never appears in an error.
func ReadToken(path string) (string, error) {
	text, err := readBounded(path, 4<<10)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if !oneWord(token) {
		return "", fmt.Errorf("read token: %s does not hold one word", path)
	}
	return token, nil
}

// oneWord reports whether a token is valid in a header.
func oneWord(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s is larger than %d octets", path, most)
	}
	return text, nil
}

// bearer sends a token with every call, only over TLS.
type bearer string

// GetRequestMetadata is called by gRPC for every call.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity keeps the token off plain connections.
func (bearer) RequireTransportSecurity() bool { return true }

// deadline returns ctx with a deadline: its own, else Config.Timeout from now.
func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

// invoke makes one unary call and translates its error.
func invoke[Q, A any](ctx context.Context, c *Client, op string, call func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	a, err := call(ctx, q)
	if err != nil {
		return a, c.failure(op, err, ctx.Err())
	}
	return a, nil
}

// answer is embedded in every answer and keeps the message that it was made from.
type answer struct{ message proto.Message }

// MarshalJSON returns the answer of the server as the REST interface gives it. Fields that were changed since do not show, and a value that
// did not come from a server is null.
func (a answer) MarshalJSON() ([]byte, error) {
	if a.message == nil {
		return []byte("null"), nil
	}
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(a.message)
}
