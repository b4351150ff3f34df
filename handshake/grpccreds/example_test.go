package grpccreds_test

import (
	"fmt"

	"google.golang.org/grpc"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/grpccreds"
)

// A gRPC client that refuses servers with a revoked certificate.
func ExampleNewClient() {
	checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail})
	if err != nil {
		fmt.Println(err)
		return
	}
	credentials, err := grpccreds.NewClient(checker, nil) // nil: the roots of the system
	if err != nil {
		fmt.Println(err)
		return
	}
	conn, err := grpc.NewClient("service.example:443", grpc.WithTransportCredentials(credentials))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Println(credentials.Info().SecurityProtocol)
	// Output: tls
}
