package ocspserver

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"signet.example/signet/ocsp"
)

// Handler serves a Responder over net/http. Do not put it behind an http.ServeMux, which redirects paths with two
// consecutive slashes: base64 has them. Before routes paths that begin with Prefix to it and the rest elsewhere.
type Handler struct{ Responder *Responder }

// Before returns a handler that answers OCSP requests and passes everything else to next.
func (h *Handler) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if strings.HasPrefix(request.URL.Path, Prefix) {
			h.ServeHTTP(w, request)
			return
		}
		next.ServeHTTP(w, request)
	})
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := readBody(w, request)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			reply := tooLargeReply
			reply.write(w, request)
		}
		return // otherwise the client has disconnected
	}
	path, _, _ := strings.Cut(request.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // absolute form, as sent to proxies
		path = request.URL.EscapedPath()
	}
	reply := h.Responder.Answer(request.Context(), request.Method, path, body)
	reply.write(w, request)
}

func readBody(w http.ResponseWriter, request *http.Request) ([]byte, error) {
	if request.Method != http.MethodPost {
		return nil, nil
	}
	return io.ReadAll(http.MaxBytesReader(w, request.Body, ocsp.MaxRequest))
}

// write sends a reply. Headers are assigned directly: their names are canonical, and Set would check that again.
func (r *Reply) write(w http.ResponseWriter, request *http.Request) {
	header := w.Header()
	values := [...]string{r.ContentType, r.CacheControl, r.ETag, r.LastModified, r.Expires, r.RetryAfter, r.Allow, strconv.Itoa(len(r.Body))}
	for i, name := range [...]string{"Content-Type", "Cache-Control", "Etag", "Last-Modified", "Expires", "Retry-After", "Allow"} {
		if values[i] != "" {
			header[name] = values[i : i+1 : i+1]
		}
	}
	if request.Method != http.MethodPost && r.NotModified(request.Header.Get("If-None-Match"), request.Header.Get("If-Modified-Since")) {
		delete(header, "Content-Type") // RFC 9110, Section 15.4.5: only the headers that identify the cached answer
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header["Content-Length"] = values[len(values)-1:]
	w.WriteHeader(r.Code)
	if request.Method != http.MethodHead {
		_, _ = w.Write(r.Body) // the client may have disconnected
	}
}
