package rest

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// early registers services with grpc-go so that a call is admitted before its message is read. grpc-go reads the message of a unary
// call, of any size and as slowly as it comes, before it asks anybody: so to it each call is a stream, with one message each way.
type early struct {
	server   *grpc.Server
	services Services
	patience time.Duration // how long the message of a caller who is not known may take to arrive
}

// RegisterService is called for each service.
func (e early) RegisterService(desc *grpc.ServiceDesc, service any) {
	all := *desc
	all.Methods, all.Streams = nil, slices.Clone(desc.Streams)
	for _, method := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + method.MethodName
		all.Streams = append(all.Streams, grpc.StreamDesc{StreamName: method.MethodName, Handler: func(service any, stream grpc.ServerStream) error {
			arrived, known, err := e.services.Admit(stream.Context(), name)
			if err != nil {
				return err
			}
			answer, err := method.Handler(service, stream.Context(), func(message any) error {
				defer arrived()
				if known {
					return stream.RecvMsg(message)
				}
				return within(stream.Context(), e.patience, func() error { return stream.RecvMsg(message) })
			}, e.services.Unary)
			if err != nil {
				return err
			}
			return stream.SendMsg(answer)
		}})
	}
	e.server.RegisterService(&all, service)
}

// streams stands before what is a stream to its callers too.
func streams(services Services) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !info.IsClientStream && !info.IsServerStream {
			return handler(service, stream)
		}
		return services.Stream(service, stream, info, handler)
	}
}

// within gives receive up after patience; what it gave up ends with the stream, when the handler has returned.
func within(ctx context.Context, patience time.Duration, receive func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- receive() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return status.Error(codes.DeadlineExceeded, "the message of the call takes too long")
	}
}
