package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signet.example/signet/crl/crlserver"
	"signet.example/signet/pki"
)

// serveOps serves metrics and health and, if configured, profiles. It requires no credentials: keep it on an address
// that only operators can reach.
func (s *Server) serveOps(ctx context.Context) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{s})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/readyz", s.serveReady)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "nothing is served at this path: see /metrics, /livez and /readyz", http.StatusNotFound)
	})
	if s.config.Ops.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return serveHTTP(ctx, s.listeners.ops, mux)
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready  bool             `json:"ready"`
	Config string           `json:"config"` // identifies the signet.yaml in use: settings.Config.Identity
	Checks []ReadinessCheck `json:"checks"`
}

// ReadinessCheck is one check of Readiness. A warning does not make the instance unready.
type ReadinessCheck struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warning or failed
	Detail string `json:"detail,omitempty"`
}

// The age at which operators are warned of an entry that a product does not include. A large complete list is rebuilt
// every 15 minutes only; clients that need more use its delta or the shards.
const (
	lagging         = time.Minute
	laggingComplete = 30 * time.Minute
)

// checkLags says which products are behind the ledger, and by how much.
func (s *Server) checkLags(add func(name, state, detail string)) {
	var behind []string
	for product, lag := range s.lags() {
		most := laggingComplete
		if crlserver.FollowsEvents(product) {
			most = lagging
		}
		if lag > most {
			behind = append(behind, fmt.Sprintf("%s by %s", product, lag.Round(time.Second)))
		}
	}
	if len(behind) == 0 {
		add("products", "ok", "")
		return
	}
	slices.Sort(behind)
	add("products", "warning", "behind the ledger: "+strings.Join(behind, ", ")+"; what is revoked is durable, and not published everywhere")
}

// checkMirrors says which mirrors are not being updated: what clients fetch there grows old.
func (s *Server) checkMirrors(add func(name, state, detail string)) {
	for _, m := range s.publisher.Mirrors() {
		if m.Failure == nil {
			add("mirror/"+m.Name, "ok", "")
			continue
		}
		add("mirror/"+m.Name, "warning", fmt.Sprintf("copying to it has failed since %s: %s; clients find old lists there, or none, "+
			"or an old index: check its space, permissions and credentials", m.Since.UTC().Format(time.RFC3339), m.Failure))
	}
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	readiness := s.readiness(ctx)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !readiness.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(readiness) // the client may have disconnected
}

// followAge is how far behind the universe may be before operators are warned. It reads at least every second.
const followAge = 15 * time.Second

// readiness makes every check, whatever the results of the others.
func (s *Server) readiness(ctx context.Context) Readiness {
	r := Readiness{Ready: true, Config: s.config.Identity()}
	add := func(name, state, detail string) {
		r.Checks = append(r.Checks, ReadinessCheck{name, state, detail})
		r.Ready = r.Ready && state != "failed"
	}
	// Without the database nothing is issued or revoked, but published data is still served: a load balancer must not
	// take the public listener out of service.
	switch err := s.store.Ping(ctx); {
	case err == nil:
		add("database", "ok", s.config.DatabaseName())
	case errors.Is(err, pki.ErrDiskFull):
		add("database", "warning", "its disk is full: nothing is issued or revoked until there is space; CRLs and OCSP are served from memory")
	default:
		add("database", "warning", "it does not answer, or cannot be written: nothing is issued or revoked; CRLs and OCSP are served from memory")
	}
	if age := s.options.Now().Sub(s.universe.AsOf()); age > followAge {
		add("ledger", "warning", "memory is as of "+age.Round(time.Second).String()+" ago: revocations of other instances are not known here")
	} else {
		add("ledger", "ok", "")
	}
	s.checkClock(add)
	s.checkLags(add)
	s.checkMirrors(add)
	s.checkProfiles(add)
	s.agreement.check(add)
	lists := s.publisher.Lists()
	s.checkPublicURL(add)
	s.checkURLs(add, lists)
	if why := s.fallenBack.Load(); why != nil {
		add("history", "failed", *why)
	} else {
		add("history", "ok", "")
	}
	// During a start, a missing part keeps the instance unready. Later it is a warning: a new issuer, whose responder
	// is certified within seconds, must not make every instance unready for the other issuers. Nor must a token that is
	// away and on which some parts depend.
	missing := "failed"
	if here := s.checkToken(add); !here || s.wasReady.Load() {
		missing = "warning"
	}
	switch err := s.publisher.Check(); {
	case err == nil:
		add("crl", "ok", s.listEnds(lists))
	case s.publisher.CheckAwaited() == nil:
		add("crl", "warning", err.Error())
	default:
		add("crl", missing, err.Error())
	}
	for _, c := range s.publisher.Ceremonies() {
		if c.Due {
			add("ceremony/"+s.labelOf(c.Issuer), "warning", c.Why)
		} else {
			add("ceremony/"+s.labelOf(c.Issuer), "ok", "list until "+c.NextUpdate.Format(time.RFC3339))
		}
	}
	s.checkResponders(add, missing)
	s.checkKeys(ctx, add)
	if s.certificate != nil {
		s.certificate.Check(add)
	}
	for _, issuer := range *s.issuers.known.Load() {
		s.checkIssuer(ctx, add, issuer)
	}
	if r.Ready {
		s.wasReady.Store(true)
	}
	return r
}
