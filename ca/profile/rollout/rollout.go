// Package rollout reloads profiles on every running instance when one of them is asked to reload, and reports which
// instance has which profiles. Each instance reads its own files.
package rollout

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const (
	lookInterval = time.Second           // between polls for a reload request
	waitInterval = 50 * time.Millisecond // between polls for the answers of the others
	silence      = 5 * time.Second       // after which an instance counts as gone; also how long Reload waits for the others
	patience     = 10 * time.Second      // timeout of a database call
	maxFailure   = 2000                  // octets of Instance.Failure
)

// Config configures a Rollout.
type Config struct {
	Dir      string           // of the profile files; empty: built-in profiles only
	Store    Store            // required
	Instance InstanceID       // required: identifies this process
	Name     string           // of this process, for people
	Log      *slog.Logger     // nil: nothing is logged
	Now      func() time.Time // nil: time.Now
}

// Rollout holds the profiles of this instance. It is safe for concurrent use.
type Rollout struct {
	config   Config
	profiles *profile.Set

	own      atomic.Pointer[Instance] // replaced while mu is held
	reported atomic.Bool              // own is in the database

	mu sync.Mutex // held from reading files to reporting them, so that the last report describes the set in effect
}

// Open reads the profiles of this instance. A bad file is an error. Run reports the profiles and follows reload
// requests.
func Open(ctx context.Context, config Config) (*Rollout, error) {
	if config.Store == nil || config.Instance == (InstanceID{}) {
		return nil, pki.Errorf(pki.KindInvalid, "open profiles", "Store and Instance are required")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	generation, err := config.Store.ProfileGeneration(ctx) // before the files, so that a later reload request is followed
	if err != nil {
		return nil, err
	}
	profiles, err := profile.Open(config.Dir)
	if err != nil {
		return nil, err
	}
	r := &Rollout{config: config, profiles: profiles}
	r.own.Store(&Instance{
		ID: config.Instance, Name: plain(config.Name), Generation: generation,
		Digest: profiles.Digest(), Count: len(profiles.All()), At: config.Now().UTC(),
	})
	return r, nil
}

// Profiles returns the set of this instance. Reloads change it.
func (r *Rollout) Profiles() *profile.Set { return r.profiles }

// Own returns the report of this instance. It does not access the database.
func (r *Rollout) Own() Instance { return *r.own.Load() }

// Run reports the profiles of this instance, and reads its files again when another instance was asked to reload,
// until ctx ends. It calls report, if not nil, with errors of the database. Bad files are logged and reported to the
// others.
func (r *Rollout) Run(ctx context.Context, report func(error)) {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		err := r.introduce(ctx)
		if err == nil {
			err = r.follow(ctx)
		}
		if err != nil && ctx.Err() == nil && report != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// introduce reports the set in effect, unless it was reported.
func (r *Rollout) introduce(ctx context.Context) error {
	if r.reported.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := r.config.Store.ReportProfiles(ctx, r.Own(), false, nil)
	r.reported.Store(err == nil)
	return err
}

// follow reads the files if a reload was requested since they were last read.
func (r *Rollout) follow(ctx context.Context) error {
	generation, err := r.generation(ctx)
	if err != nil || generation <= r.Own().Generation {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation <= r.Own().Generation { // read meanwhile
		return nil
	}
	event := audit.Event{Actor: auth.System("profiles").ID}
	_, failed, err := r.read(ctx, generation, false, event)
	if failed != nil {
		r.config.Log.Error("profiles not reloaded, as another instance asked: the files of this one are bad",
			"error", failed.Error(), "next", "signet profile check, then signet profile reload")
	}
	return err
}

func (r *Rollout) generation(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.config.Store.ProfileGeneration(ctx)
}

// Reload makes every running instance read its own files. If the files of this instance are bad, it returns the error
// and asks no other instance. Otherwise it waits for the others, up to 5 s, and returns the reports of all: see Behind
// and Instance.Failure. The event goes into the audit log. The caller sets only the fields that say who asked.
func (r *Rollout) Reload(ctx context.Context, event audit.Event) ([]Instance, error) {
	asked, err := r.ask(ctx, event)
	if err != nil {
		return nil, err
	}
	return r.await(ctx, asked)
}

func (r *Rollout) ask(ctx context.Context, event audit.Event) (asked uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, err := r.generation(ctx) // before the files: after a reload request while they are read, they are read again
	if err != nil {
		return 0, err
	}
	asked, failed, err := r.read(ctx, before, true, event)
	return asked, either(failed, err)
}

// ReloadHere is Reload for this instance only.
func (r *Rollout) ReloadHere(ctx context.Context, event audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, failed, err := r.read(ctx, r.Own().Generation, false, event)
	return either(failed, err)
}

// either returns the error that is not nil, or both joined.
func either(failed, err error) error {
	if failed != nil && err != nil {
		return errors.Join(failed, err)
	}
	return cmp.Or(failed, err)
}

// read reads the files and reports the outcome, with the event in the audit log. If the files are good and the report
// succeeded, they take effect. generation is the newest that was known before the files were read, and asked the
// generation of the report. failed is what is wrong with the files, and err is why the outcome could not be reported:
// with either of them the profiles are unchanged. If err is not nil the reload request may have reached the database
// all the same; then follow acts on it. r.mu is held.
func (r *Rollout) read(ctx context.Context, generation uint64, ask bool, event audit.Event) (asked uint64, failed, err error) {
	reading, failed := r.profiles.Read()
	next := r.Own()
	next.Generation, next.At = generation, r.config.Now().UTC()
	if failed == nil {
		next.Digest, next.Count, next.Failure = reading.Digest(), reading.Len(), ""
	} else {
		next.Failure = clip(failed.Error())
		if ask {
			ask, next.Generation = false, r.Own().Generation
		}
	}
	event = r.completed(event, next, failed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if asked, err = r.config.Store.ReportProfiles(ctx, next, ask, []audit.Event{event}); err != nil {
		r.reported.Store(false) // the report may have been written: the set in effect is reported again
		return 0, failed, err
	}
	if !ask || asked == generation+1 { // else another reload was requested meanwhile: follow reads again
		next.Generation = asked
	}
	if failed == nil {
		r.profiles.Use(reading)
		r.config.Log.Info("the profiles were read again", "by", event.Actor, "count", strconv.Itoa(next.Count), "digest", event.Detail["digest"])
	}
	r.own.Store(&next)
	return asked, failed, nil
}

// completed returns the audit event of a reading.
func (r *Rollout) completed(event audit.Event, next Instance, failed error) audit.Event {
	event.At, event.Action, event.Target, event.Outcome = r.config.Now(), "profiles.reload", "instance", audit.OK
	before := r.Own().Digest
	event.Detail = map[string]string{
		"instance": hex.EncodeToString(next.ID[:]), "name": next.Name,
		"digest": hex.EncodeToString(next.Digest[:]), "digest_before": hex.EncodeToString(before[:]),
	}
	if failed != nil {
		event.Outcome, event.Detail["error"] = audit.Refused, next.Failure
	}
	return event
}

// await waits until every running instance has followed the reload request, at most 5 s.
func (r *Rollout) await(ctx context.Context, generation uint64) ([]Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	for {
		all, err := r.Instances(context.WithoutCancel(ctx))
		if err != nil {
			return nil, pki.Errorf(pki.KindOf(err), "reload profiles", "this instance has reloaded and all others were asked to; their answers cannot be read: %w", err).
				WithHint("signet profile instances")
		}
		if !slices.ContainsFunc(all, func(i Instance) bool { return Behind(i, generation) }) {
			return all, nil
		}
		select {
		case <-ctx.Done():
			return all, nil
		case <-time.After(waitInterval):
		}
	}
}

// Behind reports whether an instance has not yet followed the reload request with a generation.
func Behind(i Instance, generation uint64) bool { return i.Generation < generation }

// Instances returns the reports of all running instances, this one included, sorted by name.
func (r *Rollout) Instances(ctx context.Context) ([]Instance, error) {
	all, err := r.config.Store.ProfileReports(ctx, silence)
	if err != nil {
		return nil, err
	}
	own := r.Own()
	all = slices.DeleteFunc(all, func(i Instance) bool { return i.ID == own.ID })
	all = append(all, own)
	slices.SortFunc(all, func(a, b Instance) int {
		if by := strings.Compare(a.Name, b.Name); by != 0 {
			return by
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	return all, nil
}

func clip(text string) string {
	if len(text) <= maxFailure {
		return plain(text)
	}
	return strings.ToValidUTF8(plain(text)[:maxFailure], "") + "…"
}

// plain returns text that databases accept. The errors of YAML quote files, and may cut a quotation within a
// character.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
