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
				err := e.read(stream.Context(), name, known, message)
				if unreadable(err) && stream.Context().Err() == nil {
					id := e.services.Unread(stream.Context(), name, status.Convert(err).Message())
					_ = stream.SetHeader(metadata.Pairs(requestIDHeader, id)) // the answer is the same without
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

// read reads the message of a call that was admitted. What grpc-go reads by itself and cannot read it answers by itself too, before the
// audit log has heard of it.
func (e early) read(ctx context.Context, method string, known bool, message any) (err error) {
	defer func() {
		if err == io.EOF { // a call of this kind has a message
			err = broken(ctx, err)
		}
	}()
	if known {
		return receive(ctx, message, maxLargeBody)
	}
	most, patience := maxStranger, e.patience
	if method == healthv1.Health_Check_FullMethodName { // shares no places: there may be as many as come
		most, patience = maxHealth, min(patience, time.Second)
	}
	return within(ctx, patience, func() error { return receive(ctx, message, most) })
}

// unreadable reports whether an error of read is about a message that came: it is too long, compressed, or no message. Of what did not
// come in time nobody can say what was asked.
func unreadable(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented:
		return true
	}
	return false
}

// streams stands before what is a stream to its callers too.
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

// items is a stream of messages of callers who are known, read as the message of another call is; see read.
type items struct{ grpc.ServerStream }

// RecvMsg returns io.EOF after the last.
func (s items) RecvMsg(message any) error { return receive(s.Context(), message, maxLargeBody) }

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

// receive reads a message of at most so many octets; io.EOF: there is none. To grpc-go there is one bound, for all methods. What it reads a stream from has
// methods to know the length first; should a newer one have them no more, everybody is refused.
func receive(ctx context.Context, message any, most int) error {
	wire, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		ReadMessageHeader(header []byte) error
		Read(n int) (mem.BufferSlice, error)
	})
	into, known := message.(proto.Message)
	if !ok || !known {
		return status.Error(codes.Internal, "the message cannot be read")
	}
	var header [5]byte // whether it is compressed, and its length: Length-Prefixed-Message of "gRPC over HTTP2"
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

// broken is of a message that breaks off. That its call was over first says nothing against it: it can be sent again.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Errorf(codes.InvalidArgument, "read the message: %v", err)
}
