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

// methods lists the methods that are served at each path, as in the OpenAPI document.
type methods []described

type described struct {
	path  *regexp.Regexp
	allow string // value of the Allow header
}

var variable = regexp.MustCompile(`\\\{[^}]+\\\}`) // in a quoted path

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

// allow returns the value of the Allow header of a path. A path that the document does not describe (the document
// itself, /healthz) is read-only.
func (m methods) allow(path string) string {
	for _, r := range m {
		if r.path.MatchString(path) {
			return r.allow
		}
	}
	return "GET, HEAD"
}

// writeRoutingError is called by the gateway if nothing is served at a path, or not with this method.
func (m methods) writeRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	p := problem{Status: code, Kind: "invalid", Detail: http.StatusText(code)}
	switch code {
	case http.StatusNotFound:
		p.Kind, p.Detail = "not-found", "nothing is served at this path"
		p.Hint = "GET /openapi.json describes what is"
	case http.StatusMethodNotAllowed:
		p.Detail = fmt.Sprintf("%s is not served at this path", r.Method)
		allow := m.allow(r.URL.Path)
		p.Hint = "this path takes " + allow + "; GET /openapi.json describes every one"
		w.Header().Set("Allow", allow) // RFC 9110, Section 15.5.6
	}
	writeProblem(w, r, p)
}
