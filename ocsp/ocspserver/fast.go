package ocspserver

import (
	"context"
	"strings"

	"github.com/valyala/fasthttp"
)

// Fast returns a handler for fasthttp that answers OCSP requests and passes everything else to next.
func (h *Handler) Fast(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		// A fasthttp context ends only with the server; Config.Patience bounds the work instead.
		if ctx.IsGet() || ctx.IsHead() {
			if reply, ok := h.Responder.recall(context.Background(), ctx.RequestURI()); ok {
				reply.writeFast(ctx)
				return
			}
		}
		path, _, _ := strings.Cut(string(ctx.RequestURI()), "?")
		if !strings.HasPrefix(path, "/") { // absolute form, as sent to proxies
			path = string(ctx.URI().PathOriginal())
		}
		if !strings.HasPrefix(path, Prefix) {
			next(ctx)
			return
		}
		reply := h.Responder.Answer(context.Background(), string(ctx.Method()), path, ctx.PostBody())
		reply.writeFast(ctx)
	}
}

// canonical are the names of a reply's headers in the spelling of fasthttp.
var canonical = [...][]byte{[]byte("Cache-Control"), []byte("Etag"), []byte("Last-Modified"), []byte("Expires"), []byte("Retry-After"), []byte("Allow")}

// writeFast is write for fasthttp, which omits the body in a reply to HEAD by itself.
func (r *Reply) writeFast(ctx *fasthttp.RequestCtx) {
	header := &ctx.Response.Header
	values := [...]string{r.CacheControl, r.ETag, r.LastModified, r.Expires, r.RetryAfter, r.Allow}
	for i, name := range canonical {
		if values[i] != "" {
			header.SetCanonical(name, []byte(values[i]))
		}
	}
	asked := &ctx.Request.Header
	if !asked.IsPost() && r.ETag != "" && r.NotModified(string(asked.Peek("If-None-Match")), string(asked.Peek("If-Modified-Since"))) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	header.SetContentType(r.ContentType)
	ctx.SetStatusCode(r.Code)
	ctx.Response.SetBodyRaw(r.Body)
}
