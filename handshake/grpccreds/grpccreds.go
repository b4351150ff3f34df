// Package grpccreds makes gRPC transport credentials whose peers a handshake.Checker accepts. It is a package of its
// own so that users of handshake who do not speak gRPC do not link it.
package grpccreds

import (
	"crypto/tls"

	"google.golang.org/grpc/credentials"

	"signet.example/signet/handshake"
)

// NewClient returns credentials for grpc.WithTransportCredentials. config nil means the system's roots.
func NewClient(checker *handshake.Checker, config *tls.Config) (credentials.TransportCredentials, error) {
	if config == nil {
		config = &tls.Config{}
	}
	wrapped, err := checker.WrapClient(config)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(wrapped), nil
}

// NewServer returns credentials for grpc.Creds.
func NewServer(checker *handshake.Checker, config *tls.Config) (credentials.TransportCredentials, error) {
	wrapped, err := checker.WrapServer(config)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(wrapped), nil
}
