package grpccreds_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/grpccreds"
	"signet.example/signet/handshake/handshaketest"
)

// TestMutual: a gRPC client and server that check each other, and refuse whom their authority has revoked.
func TestMutual(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> server; int -> client; int -> bad revoked")
	call := func(serverName, clientName string) error {
		serverConfig := p.ServerConfig(p.Cert(serverName), nil)
		serverConfig.ClientCAs, serverConfig.ClientAuth = p.Cert(serverName).Pool(), tls.RequireAndVerifyClientCert
		serverCreds, err := grpccreds.NewServer(p.Checker(nil), serverConfig)
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.Creds(serverCreds))
		healthv1.RegisterHealthServer(server, health.NewServer())
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go server.Serve(listener)
		defer server.Stop()

		clientConfig := p.ClientConfig(p.Cert(serverName))
		clientConfig.Certificates = []tls.Certificate{p.Cert(clientName).TLS(nil)}
		clientCreds, err := grpccreds.NewClient(p.Checker(nil), clientConfig)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(clientCreds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
		return err
	}
	if err := call("server", "client"); err != nil {
		t.Error(err)
	}
	if err := call("bad", "client"); status.Code(err) != codes.Unavailable {
		t.Errorf("a revoked server: %v", err)
	}
	if err := call("server", "bad"); status.Code(err) != codes.Unavailable {
		t.Errorf("a revoked client: %v", err)
	}
}

// TestRevocationCuts: a stream that runs ends when the certificate of the peer becomes revoked, on either side, and no new one
// begins.
func TestRevocationCuts(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		t.Run(side, func(t *testing.T) {
			p := handshaketest.New(t, "root -> int -> server noaia; int -> client noaia")
			checkers := map[string]*handshake.Checker{"server": p.Checker(nil), "client": p.Checker(nil)}
			serverConfig := p.ServerConfig(p.Cert("server"), nil)
			serverConfig.ClientCAs, serverConfig.ClientAuth = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert
			serverCreds, err := grpccreds.NewServer(checkers["server"], serverConfig)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer(grpc.Creds(serverCreds.Clone()))
			healthv1.RegisterHealthServer(server, health.NewServer())
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go server.Serve(listener)
			defer server.Stop()
			clientConfig := p.ClientConfig(p.Cert("server"))
			clientConfig.Certificates = []tls.Certificate{p.Cert("client").TLS(nil)}
			clientCreds, err := grpccreds.NewClient(checkers["client"], clientConfig)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(clientCreds.Clone()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatalf("before: %v", err)
			}
			revoked, judge := "server", checkers["client"]
			if side == "client" {
				revoked, judge = "client", checkers["server"]
			}
			p.Cert(revoked).Revoke(1)
			judge.Recheck(ctx)
			if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("the stream goes on, or ended with %v", err)
			}
			if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
				t.Errorf("a new call: %v", err)
			}
		})
	}
}
