// Package server assembles Signet: it opens what the configuration names, builds every component from the components it
// depends on, and runs the listeners. It has no business logic of its own.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"signet.example/signet/api/rest"
	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/ca/approval"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile/rollout"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/server/apicert"
	"signet.example/signet/internal/server/highwater"
	"signet.example/signet/internal/settings"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

// Role is what an instance does. The zero value is RoleAll.
type Role uint8

// The roles.
const (
	RoleAll    Role = iota // issues, revokes, publishes, answers
	RolePublic             // serves CRLs, OCSP and issuers, without any key that can sign certificates
)

// ParseRole reads "all" or "public".
func ParseRole(text string) (Role, error) {
	switch text {
	case "all":
		return RoleAll, nil
	case "public":
		return RolePublic, nil
	}
	return 0, pki.Errorf(pki.KindInvalid, "parse role", "%q: want all or public", text).InField("role")
}

// Options says how to run, in addition to the configuration.
type Options struct {
	Role       Role
	Passphrase []byte       // decrypts the keys; required
	Unsafe     bool         // accept a PostgreSQL that can lose confirmed writes
	Log        *slog.Logger // nil: nothing is logged
	Now        func() time.Time
}

// Server is a running instance of Signet with all its components.
type Server struct {
	config    *settings.Config
	options   Options
	log       *slog.Logger
	troubles  troubles // problems in the background
	freshness alarmBook
	instance  revocation.InstanceID

	store         store.Store
	keys          *keys.Guard // of issuers; nil in RolePublic
	late          *keys.Late  // the token, which may be unreachable; nil: none is configured
	responderKeys *keys.Guard
	authority     *ca.Authority  // nil in RolePublic
	requests      *approval.Desk // nil in RolePublic
	universe      *revocation.Universe
	ledger        *revocation.Ledger
	jobs          *revocation.Jobs
	board         *revocation.Board
	publisher     *crlserver.Publisher
	delegation    *ocspserver.Delegation
	responder     *ocspserver.Responder
	profiles      *rollout.Rollout     // nil in RolePublic
	api           *rpc.API             // nil in RolePublic
	apiServer     *rest.Server         // nil in RolePublic
	certificate   *apicert.Certificate // nil in RolePublic
	issuers       issuerFiles
	highWater     *highwater.Memory
	agreement     agreement
	wasReady      atomic.Bool            // everything worked at least once
	fallenBack    atomic.Pointer[string] // why this instance no longer issues or publishes; nil if it does
	fallen        chan struct{}          // closed when fallenBack is set
	listeners     listeners
}

// Open builds every component and binds every address, so that errors show before anything is served. Run serves; Close
// releases everything.
func Open(ctx context.Context, config *settings.Config, options Options) (s *Server, err error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	s = &Server{config: config, options: options, log: slog.New(hinting{options.Log.Handler()}), fallen: make(chan struct{})}
	s.troubles.log = s.log
	if _, err := rand.Read(s.instance[:]); err != nil {
		return nil, pki.Errorf(pki.KindInternal, "name this instance", "%w", err)
	}
	s.issuers.now = options.Now
	opened := s // a return sets s before the deferred call
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []func(context.Context) error{
		s.openStore, s.openHighWater, s.openTruth, s.openAuthority, s.openOCSP, s.openCRL, s.openBoard, s.openAPI, s.bind,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Server) openStore(ctx context.Context) (err error) {
	s.store, err = installation.OpenDatabase(ctx, s.config, "signet serve", s.options.Unsafe)
	return err
}

// openTruth loads which certificates were issued and revoked, and makes the only writer of status.
func (s *Server) openTruth(ctx context.Context) (err error) {
	if s.universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: s.store, Ranges: s.store, Now: s.options.Now}); err != nil {
		return err
	}
	if err := s.universe.Load(ctx); err != nil {
		return err
	}
	s.ledger, err = revocation.NewLedger(revocation.LedgerConfig{Store: s.store, Universe: s.universe, Keys: s.store, Now: s.earliest})
	return err
}

// openAuthority opens the keys and closes the ranges of processes that no longer exist.
func (s *Server) openAuthority(ctx context.Context) error {
	if s.options.Role == RolePublic {
		return nil
	}
	var err error
	if s.profiles, err = rollout.Open(ctx, rollout.Config{
		Dir: s.config.ProfilesDir(), Store: s.store, Instance: rollout.InstanceID(s.instance), Name: s.name(), Log: s.log, Now: s.options.Now,
	}); err != nil {
		return err
	}
	late := func(open func() (keys.Store, error), uri func(string) string) (keys.Store, error) {
		var err error
		if s.late, err = keys.NewLate(keys.LateConfig{Open: open, URI: uri, Wait: s.config.Keys.Deadline}); err != nil {
			return nil, err // s.late is nil
		}
		return s.late, nil
	}
	keyStore, err := installation.OpenKeys(s.config.KeyStores(), s.config.State().Keys(), s.options.Passphrase, late)
	if err != nil {
		return err
	}
	weak, err := readWeakKeys(s.config.WeakKeysPath())
	if err != nil {
		return err
	}
	s.keys = s.guard(keyStore)
	s.authority, err = ca.New(ctx, ca.Config{
		Profiles: s.profiles.Profiles(), Keys: s.keys, Issuers: s.store, Ranges: s.store, Certificates: s.store, Inventory: s.store, Audit: s.store, Status: s.universe,
		WeakKeys: weak, Now: s.options.Now, Changed: s.issuersChanged,
	})
	if err != nil {
		return err
	}
	if err := s.openKeys(ctx); err != nil {
		return err
	}
	voids, err := s.authority.Reconcile(ctx)
	if voids > 0 {
		s.log.Warn("certificates that a stopped process had reserved are void", "count", voids)
	}
	if err != nil && ctx.Err() == nil && canWait(err) { // Run tries again, or the instance with the key does
		s.troubles.once("reconciliation", err)
		return nil
	}
	return err
}

// canWait reports whether an error says only that something does not answer, or that keys are at other instances.
func canWait(err error) bool {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(all.Unwrap(), func(err error) bool { return !canWait(err) })
	}
	return pki.KindOf(err) == pki.KindUnavailable || errors.Is(err, ca.ErrKeyElsewhere)
}

// readWeakKeys reads the list of weak keys from a file; for an empty path it returns none.
func readWeakKeys(path string) (policy.WeakKeys, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "read weak keys", "%w", err).InField("weak_keys").
			WithHint("put the file there, which is not in a backup, or leave weak_keys out of signet.yaml and certify weak keys")
	}
	defer f.Close()
	weak, err := policy.ReadWeakKeys(f)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "open weak keys", "%s: %w", path, err).InField("weak_keys")
	}
	return weak, nil
}

// guard wraps a key store to bound and count the use of its keys.
func (s *Server) guard(store keys.Store) *keys.Guard {
	c := s.config.Keys
	return keys.NewGuard(keys.GuardConfig{Store: store, Deadline: c.Deadline, Queue: c.Queue, Places: c.Places})
}

// openKeys opens every key that is available, so that a wrong passphrase shows now. A key that was taken away, like
// that of an off-line root, or whose token does not answer, fails only what needs it.
func (s *Server) openKeys(ctx context.Context) error {
	for _, issuer := range s.authority.Issuers() {
		if issuer.KeyURI == "" || issuer.State == ca.IssuerPending {
			continue
		}
		switch _, _, err := s.authority.IssuerSigner(ctx, issuer.ID); {
		case err == nil || errors.Is(err, ca.ErrKeyElsewhere):
		case pki.KindOf(err) == pki.KindUnavailable && ctx.Err() == nil:
			s.troubles.once("key of "+issuer.Label, err)
		default:
			return err
		}
	}
	return nil
}

// checkToken warns if a token is configured and does not answer. It reports whether the token answers, true if none is
// configured.
func (s *Server) checkToken(add func(name, state, detail string)) bool {
	if s.late == nil {
		return true
	}
	err := s.late.Away()
	if err != nil {
		add("token", "warning", pki.Explain(err))
		return false
	}
	add("token", "ok", "")
	return true
}

// awaitToken waits for a token that did not answer and then opens the keys in it.
func (s *Server) awaitToken(ctx context.Context) error {
	s.late.Run(ctx, s.report("token"))
	if err := s.openKeys(ctx); err != nil && ctx.Err() == nil {
		s.report("token")(err)
	}
	return nil
}

// openBoard makes the board on which this instance tells the others how far its products are.
func (s *Server) openBoard(context.Context) (err error) {
	s.board, err = revocation.NewBoard(revocation.BoardConfig{Store: s.store, Instance: s.instance, Products: s.reached, Now: s.options.Now})
	return err
}

// reached returns how far each product is that a caller may wait for.
func (s *Server) reached() map[string]uint64 {
	reached := map[string]uint64{"ocsp": s.responder.Stats().Seq}
	for issuer, seq := range s.publisher.ReachedBy() {
		reached["crl/"+issuer.String()] = seq
	}
	return reached
}

// Run serves until ctx ends. Then it stops stage by stage, so that no acknowledged change is lost: the listeners, then
// what they call, then the reserved ranges.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("signet serves", "api", s.Addresses().API, "public", s.Addresses().Public, "ops", s.Addresses().Ops, "database", s.config.DatabaseName())
	for _, stray := range s.strayURLs() {
		s.log.Info("an issuer does not follow public_url", "public_url", s.config.PublicURL, "issuer", stray)
	}
	s.note(ctx, "server.start")
	if err := s.catchUp(ctx); err != nil && ctx.Err() == nil {
		s.report("start")(err)
	}
	group, ctx := errgroup.WithContext(ctx)
	ending := ctx
	for _, stage := range []stage{
		{s.serving(), s.publishDue}, // calls in progress may wait for the stages below
		{s.working(), nil},
		// Progress is announced no longer than it is true.
		{parts{"progress": func(ctx context.Context) error { s.board.Run(ctx, s.report("progress")); return nil }}, nil},
	} {
		ending = stage.start(ending, group)
	}
	err := group.Wait()
	stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), notePatience)
	defer cancel()
	s.note(stopped, "server.stop")
	return err
}

// startPatience is shorter than the time after which others stop waiting for a silent instance.
const startPatience = 3 * time.Second

// catchUp brings this instance up to date before it announces itself. From then on others wait for it, so everything
// that they were told is published must be applied here first.
func (s *Server) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := s.board.Announce(ctx); err != nil {
		return err
	}
	if err := s.universe.CatchUp(ctx); err != nil {
		return err
	}
	return s.publisher.CatchUp(ctx)
}

// parts are functions that run at the same time, by name.
type parts map[string]func(context.Context) error

// stage is a set of parts that stop together.
type stage struct {
	parts parts
	last  func(context.Context) // called when they have stopped; may be nil
}

// start runs the parts until ending ends. It returns a context that ends when they have stopped, which is ending for
// the next stage.
func (g stage) start(ending context.Context, group *errgroup.Group) context.Context {
	next, end := context.WithCancel(context.WithoutCancel(ending))
	var running sync.WaitGroup
	for name, run := range g.parts {
		running.Add(1)
		group.Go(func() error {
			defer running.Done()
			if err := run(ending); err != nil && ending.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer end()
		<-ending.Done()
		running.Wait()
		if g.last != nil {
			g.last(next)
		}
		return nil
	})
	return next
}

// publishGrace is how long a stop waits for the publication of recent revocations.
const publishGrace = 2 * time.Second

// publishDue lets the publisher catch up with the acknowledged changes.
func (s *Server) publishDue(ctx context.Context) {
	if s.options.Role == RolePublic || s.fallenBack.Load() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishGrace)
	defer cancel()
	_ = s.publisher.Await(ctx, s.universe.Seq()) // another instance, or the next start, publishes the rest
}

// serving returns the listeners.
func (s *Server) serving() parts {
	all := parts{"public listener": s.servePublic, "ops listener": s.serveOps}
	if s.options.Role == RoleAll {
		all["API listener"] = func(ctx context.Context) error { return s.apiServer.Serve(ctx, s.listeners.api) }
	}
	return all
}

// working returns what the listeners call and what runs by itself.
func (s *Server) working() parts {
	all := parts{
		"ledger follower": func(ctx context.Context) error { s.universe.Run(ctx, s.report("ledger follower")); return nil },
		"OCSP cache":      func(ctx context.Context) error { return s.responder.Run(ctx, s.universe.Watch(s.universe.Seq())) },
		"OCSP delegation": func(ctx context.Context) error { return s.delegation.Run(ctx, s.report("OCSP delegation")) },
		"CRL publisher":   func(ctx context.Context) error { s.publisher.Run(ctx); return nil },
		"issuer files":    every(issuersInterval, s.followIssuers),
		"high water":      every(highWaterInterval, s.compareHighWater),
		"disagreement":    s.compareProducts,
		"keys":            s.watchKeys,
		"freshness":       every(freshnessInterval, func(context.Context) { s.tellFreshness() }),
	}
	if s.options.Role == RoleAll {
		if s.late != nil {
			all["token"] = s.awaitToken
		}
		all["issuance"] = func(ctx context.Context) error { return s.authority.Run(ctx, s.report("issuance")) }
		all["profiles"] = func(ctx context.Context) error { s.profiles.Run(ctx, s.report("profiles")); return nil }
		all["API certificate"] = s.renewAPICertificate
		all["revocation jobs"] = s.unlessFallen(func(ctx context.Context) { s.jobs.Run(ctx, s.report("revocation jobs")) })
		all["approved requests"] = s.unlessFallen(func(ctx context.Context) { s.requests.Run(ctx, s.report("approved requests")) })
	}
	return all
}

// every returns a part that calls do at an interval until its context ends.
func every(interval time.Duration, do func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				do(ctx)
			}
		}
	}
}

// unlessFallen returns a part that runs something that writes, until ctx ends or the database went back.
func (s *Server) unlessFallen(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-s.fallen:
				cancel(pki.ErrWentBack)
			case <-ctx.Done():
			}
		}()
		run(ctx)
		return nil
	}
}

// report returns a function that logs a background error of a part, with its hint.
func (s *Server) report(part string) func(error) {
	return func(err error) { s.troubles.report(part, err) }
}

// ReloadProfiles makes this instance, and no other, read its profiles again while certificates are issued. Either the
// whole new set takes effect or, if a file is bad, nothing changes and the error names the fault.
func (s *Server) ReloadProfiles(ctx context.Context) error {
	if s.profiles == nil {
		return nil
	}
	err := s.profiles.ReloadHere(ctx, audit.Event{Actor: auth.System("server").ID})
	if err != nil {
		s.log.Error("the profiles are unchanged: the new ones do not count", "error", err.Error(), "next", "signet profile check, then reload again")
	}
	return err
}

// checkProfiles warns of files that were refused.
func (s *Server) checkProfiles(add func(name, state, detail string)) {
	if s.profiles == nil {
		return
	}
	if why := s.profiles.Own().Failure; why != "" {
		add("profiles", "warning", "the files were refused, and the profiles of before are in effect: "+why)
		return
	}
	add("profiles", "ok", "")
}

// name returns the name of this instance for people.
func (s *Server) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return host + " " + s.config.API.Listen
}

// notePatience is how long a stop waits for its audit event.
const notePatience = 5 * time.Second

// note writes an audit event about this instance itself. If that fails, the operator is told, unless the instance was
// told to end. Nothing that matters depends on these events.
func (s *Server) note(ctx context.Context, action string) {
	event := audit.Event{At: s.options.Now(), Actor: auth.System("server").ID, Action: action, Target: "instance", Outcome: audit.OK}
	if err := s.store.AppendAudit(ctx, []audit.Event{event}); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.troubles.once("audit", err)
	}
}

// Close releases listeners, ranges, keys and the database. Call it once, after Run or instead of it.
func (s *Server) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	failed := s.listeners.close()
	if s.ledger != nil {
		failed = errors.Join(failed, s.ledger.Close())
	}
	if s.authority != nil {
		failed = errors.Join(failed, s.authority.Close(ctx))
	}
	if s.store != nil {
		if s.highWater != nil {
			failed = errors.Join(failed, s.highWater.Save())
		}
		failed = errors.Join(failed, s.store.Close())
	}
	s.troubles.close()
	return failed
}

// Addresses are the addresses of the listeners; empty for a listener that does not exist.
type Addresses struct{ API, Public, Ops string }

// Addresses returns the addresses that the server listens on.
func (s *Server) Addresses() Addresses {
	return Addresses{address(s.listeners.api), address(s.listeners.public), address(s.listeners.ops)}
}

func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}
