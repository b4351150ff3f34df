package rest

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Limited are the paths with a limit of their own, as in the OpenAPI document.
func Limited() []string { return slices.Sorted(maps.Keys(limits)) }

// HasLimitOf reports whether a path has the limit that is written for a pattern.
func HasLimitOf(path, pattern string) bool { return limitOf(path) == limits[pattern] }

// Decode reads a message and returns the field at fault and what is wrong; two empty texts if nothing is.
func Decode(text []byte, into proto.Message) (field, detail string) {
	p := decode(text, into)
	if p == nil {
		return "", ""
	}
	return p.Field, p.Detail
}
