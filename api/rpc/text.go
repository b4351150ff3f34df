package rpc

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"signet.example/signet/pki"
)

// checkTexts refuses a request with text that databases cannot store: text with a NUL, or invalid UTF-8. Protobuf and
// JSON have checked for invalid UTF-8, but not in the URL of a REST call.
func checkTexts(m proto.Message) error {
	if field, found := unkept(m.ProtoReflect()); found {
		return pki.Errorf(pki.KindInvalid, "read request", "it holds a NUL character, or is no UTF-8").InField(field).
			WithHint("leave the character out")
	}
	return nil
}

// unkept returns the first field with such text, as the API names it.
func unkept(m protoreflect.Message) (path string, found bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsMap() || f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.MessageKind {
			return true
		}
		name := string(f.Name())
		if !f.IsList() {
			path, found = within(name, f, v)
			return !found
		}
		for i := range v.List().Len() {
			if path, found = within(indexed(name, i), f, v.List().Get(i)); found {
				return false
			}
		}
		return true
	})
	return path, found
}

func within(name string, f protoreflect.FieldDescriptor, v protoreflect.Value) (string, bool) {
	if f.Kind() == protoreflect.StringKind {
		return name, strings.IndexByte(v.String(), 0) >= 0 || !utf8.ValidString(v.String())
	}
	inner, found := unkept(v.Message())
	return name + "." + inner, found
}
