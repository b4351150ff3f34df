package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// marshaler is protobuf's JSON. It is strict when it reads and names the field at fault.
type marshaler struct{ runtime.JSONPb }

func newMarshaler() *marshaler {
	return &marshaler{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true}}}
}

// Marshal appends a newline, for people at a terminal.
func (m *marshaler) Marshal(value any) ([]byte, error) {
	text, err := m.JSONPb.Marshal(value)
	return append(text, '\n'), err
}

// NewDecoder returns a decoder of one JSON value. Nothing may follow the value.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(value any) error {
		text, err := io.ReadAll(r)
		if err != nil {
			noteUnread(r, err)
			return err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			return io.EOF // the gateway reads it as an empty message
		}
		message, ok := value.(proto.Message)
		if !ok {
			return m.Unmarshal(text, value)
		}
		p := decode(text, message)
		if p == nil {
			return nil
		}
		note(r, p)
		return errors.New(p.Detail)
	})
}

// decode reads a message. The problem names the field at fault.
func decode(text []byte, into proto.Message) *problem {
	err := protojson.Unmarshal(text, into)
	if err == nil {
		return nil
	}
	field, fieldErr := culprit(text, into)
	if fieldErr != nil {
		err = fieldErr
	}
	hint := "GET /openapi.json describes every field"
	if f := into.ProtoReflect().Descriptor().Fields().ByTextName(field); f != nil {
		hint = cmp.Or(values(f), hint)
	}
	return &problem{Status: http.StatusBadRequest, Kind: "invalid", Op: "read request", Detail: "read request: " + plain(err), Field: field, Hint: hint}
}

// values describes the values of an enumeration or a time; empty for other fields.
func values(f protoreflect.FieldDescriptor) string {
	if m := f.Message(); m != nil && m.FullName() == (*timestamppb.Timestamp)(nil).ProtoReflect().Descriptor().FullName() {
		return "want a time such as 2027-01-01T00:00:00Z"
	}
	if f.Enum() == nil {
		return ""
	}
	var names []string
	for i := range f.Enum().Values().Len() {
		names = append(names, string(f.Enum().Values().Get(i).Name()))
	}
	return "want one of " + strings.Join(names, ", ")
}

// culprit returns the member of an object that cannot be read. It reads one member at a time.
func culprit(text []byte, like proto.Message) (string, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return "", nil
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	fields := like.ProtoReflect().Descriptor().Fields()
	for _, name := range names {
		one, err := json.Marshal(map[string]json.RawMessage{name: members[name]})
		if err != nil {
			continue
		}
		if err := protojson.Unmarshal(one, like.ProtoReflect().New().Interface()); err != nil {
			return fieldName(fields, name), err
		}
	}
	return "", nil
}

// fieldName returns the name that the API uses for a field, which is that of the protobuf.
func fieldName(fields protoreflect.FieldDescriptors, name string) string {
	if f := fields.ByJSONName(name); f != nil {
		return string(f.Name())
	}
	return name
}

// plain returns the text of an error without the prefix and the non-breaking spaces by which protobuf prevents
// comparisons, and with foreign octets in it made valid UTF-8.
func plain(err error) string {
	text := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\uFFFD"), "\u00a0", " ")
	return strings.TrimPrefix(text, "proto: ")
}

// noteUnread records why a body was not read to its end. If the body did not arrive, it is unknown what was asked: the
// request was not refused and may be sent again.
func noteUnread(r io.Reader, err error) {
	b, ok := r.(*body)
	if !ok {
		return
	}
	p := &problem{Status: http.StatusRequestTimeout, Kind: "unavailable", Op: "read request", Detail: "read request: the body ends too early"}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p.Status, p.Kind, p.Detail = http.StatusRequestEntityTooLarge, "invalid", "read request: the body is larger than "+octets(tooLarge.Limit)
		b.exchange.unread(p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.Detail = "read request: the body takes too long"
	}
	b.exchange.failure = p
}

// body bounds the size of a body and the time it takes. It tells its exchange what went wrong, because the gateway
// keeps only the text of an error.
type body struct {
	io.ReadCloser
	exchange *exchange
	arrived  func() // stops the timer and frees the place
}

func bounded(w http.ResponseWriter, r *http.Request, most int64, patience time.Duration, e *exchange, leave func()) *body {
	control := http.NewResponseController(w)
	// After patience, reading fails.
	late := time.AfterFunc(patience, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	return &body{http.MaxBytesReader(w, r.Body, most), e, sync.OnceFunc(func() { late.Stop(); leave() })}
}

// Read stops the timer at the end of the body: a later deadline would look as if the client had disconnected.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.arrived()
	}
	return n, err
}

// Close stops the timer too.
func (b *body) Close() error {
	b.arrived()
	return b.ReadCloser.Close()
}

// note records what is wrong with a body that was read.
func note(r io.Reader, p *problem) {
	if b, ok := r.(*body); ok {
		b.exchange.failure = p
		b.exchange.unread(p)
	}
}

var queriesOnce sync.Once

// strictQueries makes the gateway refuse query parameters that name no field. Otherwise a filter with a misspelt
// condition would select everything. The gateway keeps its parser in a package variable, so it is set once.
func strictQueries() {
	queriesOnce.Do(func() { runtime.SetQueryParameterParser(queryParser{})(nil) })
}

type queryParser struct{ runtime.DefaultQueryParser }

// queryFailure is the key under which the parser stores its error in the request's form, which is all that it shares
// with the error handler. A parameter of this name in a request is refused like every unknown one.
const queryFailure = "\x00failure"

// Parse reads query parameters into a message.
func (q queryParser) Parse(target proto.Message, query url.Values, filter *utilities.DoubleArray) error {
	fields := target.ProtoReflect().Descriptor().Fields()
	for name, value := range query {
		f := fields.ByJSONName(name)
		if f == nil {
			f = fields.ByTextName(name)
		}
		if f == nil {
			query[queryFailure] = []string{name, "no such parameter", "GET /openapi.json describes every parameter"}
			return errors.New("no such parameter")
		}
		if err := q.DefaultQueryParser.Parse(target, url.Values{name: value}, filter); err != nil {
			query[queryFailure] = []string{string(f.Name()), plain(err), values(f)}
			return err
		}
	}
	return nil
}

// queryProblem returns the error that Parse stored.
func queryProblem(form url.Values) *problem {
	left := form[queryFailure]
	if len(left) != 3 {
		return nil
	}
	return &problem{Status: http.StatusBadRequest, Kind: "invalid", Op: "read request",
		Detail: "read request: " + left[0] + ": " + left[1], Field: left[0], Hint: left[2]}
}
