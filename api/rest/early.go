package rest

import (
	"context"
	"encoding/binary"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// early registers services with grpc-go so that a call is admitted before its message is read. grpc-go reads the
// message of a unary call, however large and slow, before it calls any interceptor. So early registers each call as a
// stream with one message in each direction.
type early struct {
	server   *grpc.Server
	services Services
	patience time.Duration // how long the message of an unauthenticated caller may take to arrive
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
				err := e.read(stream.Context(), name, known, message)
				if unreadable(err) && stream.Context().Err() == nil {
					id := e.services.Unread(stream.Context(), name, status.Convert(err).Message())
					_ = stream.SetHeader(metadata.Pairs(requestIDHeader, id)) // the answer is the same without the id
				}
				return err
			}, e.services.Unary)
			if err != nil {
				return err
			}
			return stream.SendMsg(answer)
		}})
	}
	e.server.RegisterService(&all, service)
}

// read reads the message of an admitted call. If grpc-go read it and failed, it would answer by itself, and the audit
// log would not know.
func (e early) read(ctx context.Context, method string, known bool, message any) (err error) {
	defer func() {
		if err == io.EOF { // a unary call has a message
			err = broken(ctx, err)
		}
	}()
	if known {
		return receive(ctx, message, maxLargeBody)
	}
	most, patience := maxStranger, e.patience
	// Health checks use none of the shared places: there may be any number of them.
	if method == healthv1.Health_Check_FullMethodName {
		most, patience = maxHealth, min(patience, time.Second)
	}
	return within(ctx, patience, func() error { return receive(ctx, message, most) })
}

// unreadable reports whether an error of read is about a message that arrived: it is too long, compressed, or
// malformed. If the message did not arrive in time, it is unknown what was asked.
func unreadable(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented:
		return true
	}
	return false
}

// streams is the interceptor of methods that are streams to their callers too.
func streams(services Services) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !info.IsClientStream && !info.IsServerStream {
			return handler(service, stream)
		}
		if info.IsClientStream {
			stream = items{stream}
		}
		return services.Stream(service, stream, info, handler)
	}
}

// items is a stream of messages from an authenticated caller. Each is read like the message of any other call; see
// read.
type items struct{ grpc.ServerStream }

// RecvMsg returns io.EOF after the last message.
func (s items) RecvMsg(message any) error { return receive(s.Context(), message, maxLargeBody) }

// within calls receive and gives it up after patience. A receive that was given up ends with the stream, when the
// handler has returned.
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

// receive reads a message of at most most octets; the error is io.EOF if there is none. grpc-go has only one bound for
// all methods. Its stream has methods that give the length first; if a newer version lacks them, every message is
// refused.
func receive(ctx context.Context, message any, most int) error {
	wire, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		ReadMessageHeader(header []byte) error
		Read(n int) (mem.BufferSlice, error)
	})
	into, known := message.(proto.Message)
	if !ok || !known {
		return status.Error(codes.Internal, "the message cannot be read")
	}
	var header [5]byte // a flag for compression, and the length: Length-Prefixed-Message of "gRPC over HTTP2"
	switch err := wire.ReadMessageHeader(header[:]); {
	case err == io.EOF:
		return err
	case err != nil:
		return broken(ctx, err)
	}
	length := binary.BigEndian.Uint32(header[1:])
	switch {
	case header[0] != 0:
		return status.Error(codes.Unimplemented, "the message is compressed")
	case int64(length) > int64(most):
		return status.Errorf(codes.ResourceExhausted, "the message has %d octets, more than %d", length, most)
	}
	data, err := wire.Read(int(length))
	if err != nil {
		return broken(ctx, err)
	}
	defer data.Free()
	if err := proto.Unmarshal(data.Materialize(), into); err != nil {
		return status.Errorf(codes.InvalidArgument, "read the message: %v", err)
	}
	return nil
}

// broken returns the error about a message that breaks off. If the call was already over, the message is not at fault:
// it can be sent again.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Errorf(codes.InvalidArgument, "read the message: %v", err)
}
