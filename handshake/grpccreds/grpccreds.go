// Package grpccreds makes gRPC transport credentials whose peers a handshake.Checker accepts. It is a package of its
// own so that programs that use handshake without gRPC do not link gRPC.
//
// Connections are tracked: while Checker.Run runs, a connection is closed when its peer's certificate becomes revoked, and
// its calls end with codes.Unavailable. A client then connects again, and is refused. gRPC passes on only the text of the
// error: for the typed error, and to count, use handshake.Config.Observe.
package grpccreds

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"google.golang.org/grpc/credentials"

	"signet.example/signet/handshake"
)

// NewClient returns credentials for grpc.WithTransportCredentials. config nil means the system's roots; an empty
// ServerName is taken from the target.
func NewClient(checker *handshake.Checker, config *tls.Config) (credentials.TransportCredentials, error) {
	if config == nil {
		config = &tls.Config{}
	}
	if _, err := checker.WrapClient(config); err != nil {
		return nil, err
	}
	return newClient(checker, config.Clone()), nil
}

func newClient(checker *handshake.Checker, config *tls.Config) *client {
	return &client{TransportCredentials: credentials.NewTLS(config), checker: checker, config: config}
}

// client is gRPC's own TLS credentials, with a configuration for every connection.
type client struct {
	credentials.TransportCredentials // for the methods that touch no connection
	checker                          *handshake.Checker
	config                           *tls.Config
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *client) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := c.config.Clone()
	config.ServerName = authority
	if host, _, err := net.SplitHostPort(authority); err == nil {
		config.ServerName = host
	}
	guard := handshake.NewGuard(raw)
	wrapped, err := c.checker.WrapClientConn(ctx, guard, config)
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return credentials.NewTLS(wrapped).ClientHandshake(ctx, authority, guard)
}

// Clone implements credentials.TransportCredentials.
func (c *client) Clone() credentials.TransportCredentials {
	return newClient(c.checker, c.config.Clone())
}

// OverrideServerName implements credentials.TransportCredentials.
func (c *client) OverrideServerName(name string) error {
	c.config.ServerName = name
	c.TransportCredentials = credentials.NewTLS(c.config)
	return nil
}

// NewServer returns credentials for grpc.Creds.
func NewServer(checker *handshake.Checker, config *tls.Config) (credentials.TransportCredentials, error) {
	if config != nil && !slices.Contains(config.NextProtos, "h2") {
		// credentials.NewTLS would add it to config only, which is not used once a connection has its own configuration.
		config = config.Clone()
		config.NextProtos = append(slices.Clone(config.NextProtos), "h2")
	}
	wrapped, err := checker.WrapServer(config)
	if err != nil {
		return nil, err
	}
	return server{credentials.NewTLS(wrapped)}, nil
}

// server is gRPC's own TLS credentials over connections that are tracked.
type server struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (s server) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return s.TransportCredentials.ServerHandshake(handshake.NewGuard(raw))
}

// Clone implements credentials.TransportCredentials.
func (s server) Clone() credentials.TransportCredentials {
	return server{s.TransportCredentials.Clone()}
}
