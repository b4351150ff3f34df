package ocspserver

import (
	"context"
	"strings"

	"github.com/valyala/fasthttp"
)

// Fast returns a handler for fasthttp that answers OCSP requests and hands everything else to next.
func (h *Handler) Fast(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		path, _, _ := strings.Cut(string(ctx.RequestURI()), "?")
		if !strings.HasPrefix(path, "/") { // absolute form, as proxies get it
			path = string(ctx.URI().PathOriginal())
		}
		if !strings.HasPrefix(path, Prefix) {
			next(ctx)
			return
		}
		// The context of fasthttp ends with the server only; Config.Patience bounds the work instead.
		reply := h.Responder.Answer(context.Background(), string(ctx.Method()), path, ctx.PostBody())
		reply.writeFast(ctx)
	}
}

// writeFast is write for fasthttp, which knows by itself that a reply to HEAD has no body.
func (r *Reply) writeFast(ctx *fasthttp.RequestCtx) {
	header := &ctx.Response.Header
	values := [...]string{r.CacheControl, r.ETag, r.LastModified, r.Expires, r.RetryAfter, r.Allow}
	for i, name := range [...]string{"Cache-Control", "Etag", "Last-Modified", "Expires", "Retry-After", "Allow"} {
		if values[i] != "" {
			header.Set(name, values[i])
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
