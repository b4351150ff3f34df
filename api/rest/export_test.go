package rest

import "google.golang.org/protobuf/proto"

// Decode reads a message and returns the field at fault and what is wrong; two empty texts if nothing is.
func Decode(text []byte, into proto.Message) (field, detail string) {
	p := decode(text, into)
	if p == nil {
		return "", ""
	}
	return p.Field, p.Detail
}
