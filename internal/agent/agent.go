// Package agent keeps certificates in files renewed. A token proves the first request, and the certificates themselves
// prove the later ones.
package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/internal/durable"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

const (
	look       = 5 * time.Minute // between looks at a certificate, because a machine may sleep and files may change
	firstPause = 30 * time.Second
	longPause  = time.Hour
	spread     = 0.1     // fraction of the life over which machines that began together spread their renewals
	outputMost = 2 << 10 // octets of a hook's output that are kept
)

// Agent keeps the certificates of a Config renewed.
type Agent struct {
	config Config
	now    func() time.Time
	say    func(Status, error)
	fetch  *fetch.Fetcher // asks responders

	mu     sync.Mutex           // guards the rest, and the status file
	status []Status             // in the order of the configuration
	silent map[string]time.Time // until when a responder (URL) that did not answer is not asked
}

// Status describes one certificate. Its JSON form is documented.
type Status struct {
	Certificate string    `json:"certificate"`      // path
	Serial      string    `json:"serial,omitempty"` // of the installed certificate; empty: there is none
	NotAfter    time.Time `json:"not_after,omitzero"`
	RenewAt     time.Time `json:"renew_at,omitzero"`
	Changed     time.Time `json:"changed,omitzero"` // when this process last replaced it

	// Standing is the last answer of its responder: good, revoked (also on hold), or unknown if there was none.
	Standing string `json:"standing,omitempty"`

	Failures int       `json:"failures"` // in a row
	NextTry  time.Time `json:"next_try,omitzero"`
	Error    string    `json:"error,omitempty"` // of the last attempt

	hookPending bool // the hook failed for the installed certificate, so programs may still use the one before
	unasked     bool // it was reported that its responder may not be asked
}

// New makes an Agent. The Agent calls say for every change and failure, also from several goroutines at once.
func New(config Config, now func() time.Time, say func(Status, error)) (*Agent, error) {
	// The responders of the configured authority may be on any network. Their redirects are not followed.
	fetcher, err := fetch.New(fetch.Config{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, NoRedirects: true, Now: now})
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "begin to keep certificates", "%w", err)
	}
	a := &Agent{config: config, now: now, say: say, fetch: fetcher, status: make([]Status, len(config.Certificates)), silent: make(map[string]time.Time)}
	for i, k := range config.Certificates {
		a.status[i].Certificate = k.Files.Certificate
	}
	return a, nil
}

// Once looks at every certificate once, renews those that are due, and returns the status of all. The error joins all
// failures.
func (a *Agent) Once(ctx context.Context) ([]Status, error) {
	a.sayOfToken()
	var failures []error
	for i := range a.config.Certificates {
		failures = append(failures, a.visit(ctx, i))
	}
	failures = append(failures, a.writeStatus())
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.status), errors.Join(failures...)
}

// Run keeps the certificates renewed until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	a.sayOfToken()
	var all sync.WaitGroup
	for i := range a.config.Certificates {
		all.Go(func() { a.keep(ctx, i) })
	}
	all.Wait()
}

// sayOfToken reports at the start an error that would otherwise be found only when the token is needed.
func (a *Agent) sayOfToken() {
	if err := a.tokenError(); err != nil {
		a.say(Status{Certificate: a.config.TokenFile}, err)
	}
}

// tokenError returns why the configured token cannot be read, or nil; also nil if no token is configured. The error
// never holds the token. Only a regular file is read: a pipe yields its token once, and it is needed later.
func (a *Agent) tokenError() error {
	if a.config.TokenFile == "" {
		return nil
	}
	if info, err := os.Stat(a.config.TokenFile); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if _, err := client.ReadToken(a.config.TokenFile); err != nil {
		return pki.Errorf(pki.KindUnauthenticated, "look at token_file", "there will be no first certificate, nor one in place of what is revoked: %w", err)
	}
	return nil
}

func (a *Agent) keep(ctx context.Context, i int) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		_ = a.visit(ctx, i) // the error is in the status, and say has been called
		if err := a.writeStatus(); err != nil {
			a.say(Status{Certificate: a.config.Status}, err)
		}
		a.mu.Lock()
		wait := look
		if next := a.status[i].NextTry; !next.IsZero() {
			wait = min(wait, next.Sub(a.now()))
		} else if at := a.status[i].RenewAt; !at.IsZero() {
			wait = min(wait, at.Sub(a.now()))
		}
		a.mu.Unlock()
		pause.Reset(max(wait, time.Second))
	}
}

// visit renews one certificate if that is due, and updates its status.
func (a *Agent) visit(ctx context.Context, i int) error {
	k := a.config.Certificates[i]
	a.mu.Lock()
	s := a.status[i]
	a.mu.Unlock()
	if a.now().Before(s.NextTry) {
		return nil
	}
	changed, err := a.attend(ctx, k, &s)
	if errors.Is(err, errLost) {
		err = errors.Join(err, k.Files.beginAnew(k.algorithm))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if changed { // the answer to an old attempt may have been revoked since
		err = errors.Join(revoked(a.look(ctx, k, &s), k.Files.Certificate), err)
	}
	now := a.now()
	s.Error, s.NextTry = "", time.Time{}
	if err != nil {
		s.Failures++
		s.Error = err.Error()
	} else {
		s.Failures = 0
	}
	if changed {
		s.Changed = now.UTC().Truncate(time.Second)
	}
	if pair, readErr := k.Files.Read(); readErr == nil {
		s.Serial, s.NotAfter, s.RenewAt = fmt.Sprintf("%x", pair.Leaf.SerialNumber), pair.Leaf.NotAfter.UTC(), k.due(pair.Leaf)
	}
	if err != nil {
		s.NextTry = now.Add(backOff(s.Failures, s.NotAfter.Sub(now)))
	}
	a.mu.Lock()
	a.status[i] = s
	a.mu.Unlock()
	if changed || err != nil {
		a.say(s, err)
	}
	return err
}

// backOff returns the pause after a number of failures in a row (from 1). It doubles from half a minute to an hour.
// While the certificate is in force, with left until it ends, the pause is at most an eighth of left (but half a minute
// or more), so that a short-lived certificate is not given up. The result is drawn from the upper half of the pause, so
// that agents that failed together spread.
func backOff(failures int, left time.Duration) time.Duration {
	pause := longPause
	if failures < 8 {
		pause = min(longPause, firstPause<<(failures-1))
	}
	if left > 0 {
		pause = max(firstPause, min(pause, left/8))
	}
	return pause/2 + rand.N(pause/2+1)
}

// attend brings one certificate up to date and records its standing in s.
func (a *Agent) attend(ctx context.Context, k Certificate, s *Status) (changed bool, err error) {
	var hookErr error
	runHook := func() error {
		hookErr = k.runHook(ctx)
		s.hookPending = hookErr != nil
		return hookErr
	}
	done, unfinished := k.Files.complete(runHook)
	if done {
		return true, unfinished
	}
	said := a.look(ctx, k, s)
	ended := revoked(said, k.Files.Certificate)
	if unfinished != nil && hookErr == nil {
		return false, errors.Join(ended, unfinished)
	}
	if unfinished == nil && s.hookPending {
		_ = runHook() // an error of the renewal is more urgent
	}
	pair, readErr := k.Files.Read()
	in := a.situation(k, pair, readErr, said)
	in.hookFails = unfinished != nil
	step := next(in)
	if step == wait {
		return false, errors.Join(ended, unfinished, readErr)
	}
	if in.hookFails {
		if err := k.Files.finish(); err != nil {
			return false, err
		}
	}
	if lost(said) {
		if err := k.Files.forsake(); err != nil {
			return false, errors.Join(ended, err)
		}
		k.KeyReuse = false
	}
	switch step {
	case nothing:
		return false, nil
	case renew:
		return a.renewOrIssue(ctx, k, s, in, runHook)
	case replace:
		a.say(Status{Certificate: k.Files.Certificate}, ended)
		return a.issue(ctx, k, runHook)
	case issue:
		return a.issue(ctx, k, runHook)
	}
	return false, errors.Join(ended, readErr)
}

// situation gathers the facts that next decides by: the outcome of reading the files, and the responder's answer.
func (a *Agent) situation(k Certificate, pair *Pair, readErr error, said ocsp.Result) situation {
	in := situation{token: a.config.TokenFile != "", standing: standingOf(said)}
	switch {
	case pki.KindOf(readErr) == pki.KindNotFound:
		in.files = missing
		return in
	case readErr != nil:
		return in
	case k.isFor(pair.Leaf):
		in.files = inOrder
	default:
		in.files = ofOtherNames
	}
	if in.standing == unanswered && len(pair.Leaf.OCSPServer) == 0 {
		in.standing = unasked
	}
	in.age = k.ageOf(pair.Leaf, a.now())
	return in
}

// renewOrIssue renews a certificate. If the server does not accept its proof, what the server says of the certificate
// counts more than the responder's earlier answer, and next decides again.
func (a *Agent) renewOrIssue(ctx context.Context, k Certificate, s *Status, in situation, runHook func() error) (changed bool, err error) {
	changed, err = a.renew(ctx, k, runHook)
	if pki.KindOf(err) != pki.KindUnauthenticated {
		return changed, err
	}
	in, said := in.afterRefusal(err)
	if said.Status == pki.StatusRevoked {
		s.Standing = said.Status.String()
	}
	k.KeyReuse = k.KeyReuse && !lost(said)
	if next(in) == report {
		return changed, err
	}
	return a.issue(ctx, k, runHook)
}

// look asks the responder about the installed certificate, even if its key cannot be read, and records the answer in s.
// If the responder may not be asked, look reports that once.
func (a *Agent) look(ctx context.Context, k Certificate, s *Status) ocsp.Result {
	der, leaf, err := readChain(k.Files.Certificate)
	if err != nil {
		return ocsp.Result{} // attend reads it again and reports the error
	}
	said, err := a.standing(ctx, leaf, der[1:])
	if err != nil && !s.unasked {
		a.say(Status{Certificate: k.Files.Certificate}, err)
	}
	s.unasked = err != nil
	s.Standing = said.Status.String()
	return said
}

// fit refuses to install an answer that was revoked meanwhile for a reason that allows another: its request may be old,
// and the installed certificate may still be good. An answer that was taken away on purpose is installed, as if it had
// come in time, and visit reports that it is revoked.
func (a *Agent) fit(ctx context.Context, chain []byte) error {
	der, leaf, err := parseChain(chain)
	if err != nil {
		return nil // it is not installed
	}
	said, _ := a.standing(ctx, leaf, der[1:]) // visit reports the error once the answer is installed
	since := said.RevokedAt.UTC().Format(time.RFC3339)
	switch {
	case said.Status != pki.StatusRevoked || !replaceable(said.Reason):
		return nil
	case lost(said):
		return notNew("one that is revoked (%s) since %s: %w", said.Reason, since, errLost)
	}
	return notNew("one that is revoked (%s) since %s: the next try asks for another", said.Reason, since)
}

func (a *Agent) renew(ctx context.Context, k Certificate, runHook func() error) (bool, error) {
	api, err := a.connect(false)
	if err != nil {
		return false, err
	}
	defer api.Close()
	issued, err := k.Files.Renew(ctx, api, false, func(old crypto.Signer) (crypto.Signer, error) {
		if k.KeyReuse {
			return old, nil
		}
		return Successor(old, k.algorithm)
	}, func(chain []byte) error { return a.fit(ctx, chain) }, runHook)
	return issued != nil, err
}

func (a *Agent) issue(ctx context.Context, k Certificate, runHook func() error) (bool, error) {
	if a.config.TokenFile == "" {
		return false, pki.Errorf(pki.KindUnauthenticated, "issue certificate", "there is no certificate in force at %s, and no token_file", k.Files.Certificate).
			WithHint("give the agent a token_file, or put a certificate there with `signet issue`")
	}
	api, err := a.connect(true)
	if err != nil {
		return false, err
	}
	defer api.Close()
	q := client.IssueRequest{Profile: k.Profile, Lifetime: k.Lifetime}
	if q.Profile == "" {
		if q.Profile, err = api.DefaultProfile(ctx); err != nil {
			return false, err
		}
	}
	for _, name := range k.names {
		q.Identifiers = append(q.Identifiers, name.String())
	}
	issued, err := k.Files.Issue(ctx, api, q, func() (crypto.Signer, error) {
		return k.Files.firstKey(k.algorithm, k.KeyReuse)
	}, func(chain []byte) error { return a.fit(ctx, chain) }, runHook)
	return issued != nil, err
}

// connect makes a client. It reads the roots, and with withToken the token, each time, because both may have been
// replaced.
func (a *Agent) connect(withToken bool) (*client.Client, error) {
	const op = "reach the server"
	c := client.Config{Address: a.config.Server, Now: a.now}
	var err error
	if c.Roots, err = client.ReadRoots(a.config.Root); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	if withToken {
		if c.Token, err = client.ReadToken(a.config.TokenFile); err != nil {
			return nil, pki.Errorf(pki.KindUnauthenticated, op, "%w", err).InField("token_file").
				WithHint("name a token in token_file; an administrator makes one with `signet credential create`")
		}
	}
	return client.New(c)
}

// patience returns the time until which a renewal waits for the hook of the one before: halfway from due to the end of
// the certificate.
func (k Certificate) patience(leaf *x509.Certificate) time.Time {
	due := k.due(leaf)
	return due.Add(leaf.NotAfter.Sub(due) / 2)
}

// ageOf returns the part of its life that a certificate is in.
func (k Certificate) ageOf(leaf *x509.Certificate, now time.Time) age {
	switch {
	case now.After(leaf.NotAfter):
		return expired
	case now.Before(k.due(leaf)):
		return early
	case now.Before(k.patience(leaf)):
		return due
	}
	return late
}

// due returns when a certificate is to be renewed. The spread is derived from its serial number, so that a restart does
// not change it.
func (k Certificate) due(leaf *x509.Certificate) time.Time {
	digest := sha256.Sum256(leaf.SerialNumber.Bytes())
	part := k.RenewAt + spread*(float64(binary.BigEndian.Uint32(digest[:]))/(1<<32)-0.5)
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(time.Duration(part * float64(life))).UTC().Truncate(time.Second)
}

// isFor reports whether a certificate has exactly the names in the configuration.
func (k Certificate) isFor(leaf *x509.Certificate) bool {
	have := map[string]bool{}
	for t, value := range pki.CertificateNames(leaf) {
		if name, err := pki.NewIdentifier(t, value); err == nil {
			have[name.String()] = true
		}
	}
	want := map[string]bool{}
	for _, name := range k.names {
		want[name.String()] = true
		if !have[name.String()] {
			return false
		}
	}
	return len(want) == len(have)
}

// runHook runs the hook, which tells the programs that use the files. It gets their paths in its environment; no shell
// is involved.
func (k Certificate) runHook(ctx context.Context) error {
	if len(k.Hook) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, k.HookTime)
	defer cancel()
	command := exec.CommandContext(ctx, k.Hook[0], k.Hook[1:]...)
	command.Env = append(os.Environ(), "SIGNET_CERTIFICATE="+k.Files.Certificate, "SIGNET_KEY="+k.Files.Key)
	command.WaitDelay = time.Second
	var output tail
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("it took longer than %s", k.HookTime)
	}
	if err != nil {
		said := ""
		if text := bytes.TrimSpace(output.text); len(text) > 0 {
			said = ": " + string(text)
		}
		return pki.Errorf(pki.KindUnavailable, "run hook", "%s: %w%s", k.Hook[0], err, said)
	}
	return nil
}

// tail keeps the last outputMost octets of an output.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if extra := len(t.text) - outputMost; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

func (a *Agent) writeStatus() error {
	if a.config.Status == "" {
		return nil
	}
	token := a.tokenError()
	a.mu.Lock()
	defer a.mu.Unlock()
	status := map[string]any{"at": a.now().UTC().Truncate(time.Second), "certificates": a.status}
	if token != nil {
		status["token_error"] = token.Error()
	}
	text, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return pki.Errorf(pki.KindInternal, "write status", "%w", err)
	}
	if err := durable.Replace(a.config.Status, append(text, '\n'), 0o644); err != nil {
		return pki.Errorf(pki.KindInvalid, "write status", "%w", err)
	}
	return nil
}
