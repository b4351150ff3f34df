// Package rollout has every running instance read its own profile files again when one of them is asked to, and tells which
// instance has which profiles.
package rollout

import (
	"context"
	"encoding/hex"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

const (
	lookInterval = time.Second           // between looks whether somebody asked
	waitInterval = 50 * time.Millisecond // between looks whether the others have answered
	silence      = 5 * time.Second       // after which an instance counts as gone, and how long others are waited for
	maxFailure   = 2000                  // octets of what is wrong with files
)

// Config says what a Rollout is of.
type Config struct {
	Dir      string           // of the profile files; empty: built-in profiles only
	Store    Store            // required
	Instance InstanceID       // required: tells this process from others
	Name     string           // of this process, for people
	Log      *slog.Logger     // zero: nothing is logged
	Now      func() time.Time // zero: time.Now
}

// Rollout holds the profiles of this instance. It is safe for concurrent use.
type Rollout struct {
	config   Config
	profiles *profile.Set

	mu  sync.Mutex // held from reading files to reporting them, so that the last report is of what is in effect
	own Instance   // guarded by mu
}

// Open reads the profiles of this instance; a bad file is an error. Run reports them and follows the others.
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
	generation, err := config.Store.ProfileGeneration(ctx) // before the files: whatever is asked for later is followed
	if err != nil {
		return nil, err
	}
	profiles, err := profile.Open(config.Dir)
	if err != nil {
		return nil, err
	}
	r := &Rollout{config: config, profiles: profiles, own: Instance{ID: config.Instance, Name: config.Name, Generation: generation, At: config.Now().UTC()}}
	r.own.Digest, r.own.Count = profiles.Digest(), len(profiles.All())
	return r, nil
}

// Profiles returns the set of this instance, which follows every reading.
func (r *Rollout) Profiles() *profile.Set { return r.profiles }

// Own is what this instance says of itself.
func (r *Rollout) Own() Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

// Run tells the others what this instance has, and has it read its files when another was asked, until ctx ends. report,
// if not nil, is told what went wrong; bad files are logged, and told to the others.
func (r *Rollout) Run(ctx context.Context, report func(error)) {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	told := false
	for {
		err := error(nil)
		if !told {
			err = r.introduce(ctx)
			told = err == nil
		}
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

func (r *Rollout) introduce(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.config.Store.ReportProfiles(ctx, r.own, false, nil)
	return err
}

// follow reads the files if somebody asked since they were read last.
func (r *Rollout) follow(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	generation, err := r.config.Store.ProfileGeneration(ctx)
	if err != nil || generation == r.own.Generation {
		return err
	}
	event := audit.Event{Actor: auth.System("profiles").ID}
	failed, err := r.read(ctx, generation, false, event)
	if failed != nil {
		r.config.Log.Error("another instance was asked to read profiles again, and this one's files are bad: its profiles are unchanged",
			"error", failed.Error(), "next", "signet profile check, then signet profile reload")
	}
	return err
}

// Reload has every running instance read its own files. If those of this instance are bad, it says so, and nobody else is
// asked. Else it waits for the others, up to 5 s, and returns what each of them has: see Behind and Instance.Failure. Of the
// event, which goes into the audit log, only who asked counts.
func (r *Rollout) Reload(ctx context.Context, event audit.Event) ([]Instance, error) {
	r.mu.Lock()
	failed, err := r.read(ctx, 0, true, event)
	generation := r.own.Generation
	r.mu.Unlock()
	if failed != nil || err != nil {
		if err == nil {
			err = failed
		}
		return nil, err
	}
	return r.await(ctx, generation)
}

// ReloadHere is Reload for this instance only.
func (r *Rollout) ReloadHere(ctx context.Context, event audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed, err := r.read(ctx, r.own.Generation, false, event)
	if err == nil {
		err = failed
	}
	return err
}

// read reads the files and reports what came of it, with the event in the audit log; then, if they are good, they take effect.
// failed is what is wrong with them, and err what kept it from being reported: either way the profiles are as before.
// r.mu is held.
func (r *Rollout) read(ctx context.Context, generation uint64, ask bool, event audit.Event) (failed, err error) {
	reading, failed := r.profiles.Read()
	next := r.own
	next.Generation, next.At = generation, r.config.Now().UTC()
	if failed == nil {
		next.Digest, next.Count, next.Failure = reading.Digest(), reading.Len(), ""
	} else {
		next.Failure = clip(failed.Error())
		if ask {
			ask, next.Generation = false, r.own.Generation
		}
	}
	event = r.completed(event, next, failed)
	next.Generation, err = r.config.Store.ReportProfiles(context.WithoutCancel(ctx), next, ask, []audit.Event{event})
	if err != nil {
		return failed, err
	}
	if failed == nil {
		r.profiles.Use(reading)
		r.config.Log.Info("the profiles were read again", "by", event.Actor, "count", strconv.Itoa(next.Count), "digest", event.Detail["digest"])
	}
	r.own = next
	return failed, nil
}

// completed is the event of a reading.
func (r *Rollout) completed(event audit.Event, next Instance, failed error) audit.Event {
	event.At, event.Action, event.Target, event.Outcome = r.config.Now(), "profiles.reload", "instance", audit.OK
	event.Detail = map[string]string{
		"instance": hex.EncodeToString(next.ID[:]), "name": next.Name, "digest": hex.EncodeToString(next.Digest[:]), "digest_before": hex.EncodeToString(r.own.Digest[:]),
	}
	if failed != nil {
		event.Outcome, event.Detail["error"] = audit.Refused, next.Failure
	}
	return event
}

// await waits until every running instance has answered, or the time is over.
func (r *Rollout) await(ctx context.Context, generation uint64) ([]Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	for {
		all, err := r.Instances(context.WithoutCancel(ctx))
		if err != nil {
			return nil, pki.Errorf(pki.KindOf(err), "reload profiles", "this instance has read its files, and all were asked; what came of it cannot be told now: %w", err).
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

// Behind says that an instance has not answered yet what was asked of all.
func Behind(i Instance, generation uint64) bool { return i.Generation < generation }

// Instances returns what every running instance has, this one included, by name.
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
		return text
	}
	return strings.ToValidUTF8(text[:maxFailure], "") + "…"
}
