package rpc

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"signet.example/signet/pki"
)

// checkTexts refuses a request with a text that no database keeps: no name has a NUL, and what is no UTF-8 is no text. Protobuf and JSON
// have checked the latter; what stands in the address of a REST call came past both.
func checkTexts(m proto.Message) error {
	if field, found := unkept(m.ProtoReflect()); found {
		return pki.Errorf(pki.KindInvalid, "read request", "it holds a NUL character, or is no UTF-8").InField(field).
			WithHint("leave the character out")
	}
	return nil
}

// unkept finds the first field, as the API names it, with such a text.
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
