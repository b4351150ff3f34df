package rpc

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"signet.example/signet/pki"
)

// checkTexts refuses a request with a NUL in any of its texts: no name has one, and no database keeps it. Whether a text is
// UTF-8 protobuf has checked.
func checkTexts(m proto.Message) error {
	if field, found := withNUL(m.ProtoReflect()); found {
		return pki.Errorf(pki.KindInvalid, "read request", "it holds a NUL character").InField(field).WithHint("leave the character out")
	}
	return nil
}

// withNUL finds the first field, as the API names it, with a NUL.
func withNUL(m protoreflect.Message) (path string, found bool) {
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
		return name, strings.IndexByte(v.String(), 0) >= 0
	}
	inner, found := withNUL(v.Message())
	return name + "." + inner, found
}
