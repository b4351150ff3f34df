package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
)

// methods says, by the OpenAPI document, which methods are served at a path.
type methods []described

type described struct {
	path  *regexp.Regexp
	allow string // value of the Allow header
}

var variable = regexp.MustCompile(`\\\{[^}]+\\\}`) // of a path, quoted

// methodsOf reads the OpenAPI document.
func methodsOf(openAPI []byte) (m methods, err error) {
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(openAPI, &document); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	for path, operations := range document.Paths {
		var allow []string
		for method := range operations {
			allow = append(allow, strings.ToUpper(method))
		}
		if slices.Contains(allow, http.MethodGet) {
			allow = append(allow, http.MethodHead)
		}
		slices.Sort(allow)
		pattern, err := regexp.Compile("^" + variable.ReplaceAllString(regexp.QuoteMeta(path), "[^/:]+") + "$")
		if err != nil {
			return nil, fmt.Errorf("read the OpenAPI document: %w", err)
		}
		m = append(m, described{pattern, strings.Join(allow, ", ")})
	}
	return m, nil
}

// allow is the value of the Allow header of a path. What the document does not describe, itself and /healthz, is only read.
func (m methods) allow(path string) string {
	for _, r := range m {
		if r.path.MatchString(path) {
			return r.allow
		}
	}
	return "GET, HEAD"
}

// writeRoutingError is called by the gateway where nothing is served, or nothing by the method.
func (m methods) writeRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	p := problem{Status: code, Kind: "invalid", Detail: http.StatusText(code)}
	switch code {
	case http.StatusNotFound:
		p.Kind, p.Detail = "not-found", "nothing is served at this path"
		p.Hint = "GET /openapi.json describes what is"
	case http.StatusMethodNotAllowed:
		p.Detail = fmt.Sprintf("%s is not served at this path", r.Method)
		w.Header().Set("Allow", m.allow(r.URL.Path)) // RFC 9110, Section 15.5.6
	}
	writeProblem(w, r, p)
}
