package rest_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/signetv1"
)

// Whatever the JSON: it is read as protobuf reads it, or refused with a text that can be shown.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"profile":"server","csrDer":"AQ=="}`, `{"profile":1}`, `{"subject":{"commonName":"x"},"lifetime":"1s"}`, `{"a":{"a":{"a":[]}}}`,
		`{"profile":"a","profile":"b"}`, `[`, `null`, "{\"profile\":\"\xff\"}", `{"notAfter":"9999-12-31T23:59:59Z"}`, `{"profile":"a"}x`, `{"requestId":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, want := new(signetv1.IssueCertificateRequest), new(signetv1.IssueCertificateRequest)
		field, detail := rest.Decode(text, got)
		if err := protojson.Unmarshal(text, want); err == nil {
			if detail != "" || !proto.Equal(got, want) {
				t.Errorf("%q: field %q, %s", text, field, detail)
			}
			return
		}
		if detail == "" || !utf8.ValidString(detail) || strings.ContainsRune(detail, '\u00a0') {
			t.Errorf("%q is no message, and the problem is %q", text, detail)
		}
	})
}
