package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"signet.example/signet/internal/server/crowd"
	"signet.example/signet/internal/settings"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// listeners are bound when the server opens, so a port in use is reported at once.
type listeners struct{ api, public, ops net.Listener }

func (s *Server) bind(ctx context.Context) (err error) {
	if s.options.Role == RoleAll {
		if s.listeners.api, err = listen(ctx, "api.listen", s.config.API.Listen, s.config.API.CrowdConfig); err != nil {
			return err
		}
	}
	if s.listeners.public, err = listen(ctx, "public.listen", s.config.Public.Listen, s.config.Public.CrowdConfig); err != nil {
		return err
	}
	s.listeners.ops, err = listen(ctx, "ops.listen", s.config.Ops.Listen, s.config.Ops.CrowdConfig)
	return err
}

func listen(ctx context.Context, field, address string, bounds settings.CrowdConfig) (net.Listener, error) {
	if address == "off" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		failed := pki.Errorf(pki.KindFailedPrecondition, "listen", "%w", err).InField(field)
		if errors.Is(err, syscall.EADDRINUSE) {
			too := ""
			if field == "public.listen" {
				too = "; certificates name the old port until public_url and each issuer follow: signet issuer update LABEL --base-url URL"
			}
			return nil, failed.
				WithHint("another process listens on %s: stop it, or choose another %s in signet.yaml%s", address, field, too)
		}
		return nil, failed.WithHint("give an address of this machine, and a port that this user may open, in signet.yaml")
	}
	return crowd.New(l, bounds.Connections, bounds.PerAddress), nil
}

func (l *listeners) close() (failed error) {
	for _, each := range []net.Listener{l.api, l.public, l.ops} {
		if each != nil {
			if err := each.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

// servePublic serves public information: CRLs, OCSP, issuers. Plain HTTP, no credentials, no writes.
func (s *Server) servePublic(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/crl/", s.publisher.Handler())
	mux.Handle("/issuers/", &s.issuers)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "nothing is served at this path: see /crl/, /ocsp/ and /issuers/", http.StatusNotFound)
	})
	return serveUntil(ctx, s.listeners.public, ocspserver.NewServer(&ocspserver.Handler{Responder: s.responder}, mux))
}

// serveHTTP serves until ctx ends and then lets requests in progress finish.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler) error {
	return serveUntil(ctx, l, &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 5 * time.Minute, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	})
}

// httpServer is an *http.Server, or the *ocspserver.Server of the public listener.
type httpServer interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

func serveUntil(ctx context.Context, l net.Listener, server httpServer) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		graceful, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(graceful) != nil {
			_ = server.Close() // time is up
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
		return nil
	}
	return err
}

// FreeAddresses returns three loopback addresses with unused ports, for demonstrations and tests, which need their URLs
// before they listen. The ports are below those that kernels use for outgoing connections, which would take one sooner
// or later.
func FreeAddresses() (Addresses, error) {
	var free []string
	for range 1000 {
		if len(free) == 3 {
			return Addresses{API: free[0], Public: free[1], Ops: free[2]}, nil
		}
		candidate := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(10_000)))
		l, err := net.Listen("tcp", candidate)
		if err != nil {
			continue
		}
		defer l.Close() // all at the end, so that the ports differ
		free = append(free, candidate)
	}
	return Addresses{}, pki.Errorf(pki.KindUnavailable, "find free ports", "a thousand ports of the loopback address are taken")
}
