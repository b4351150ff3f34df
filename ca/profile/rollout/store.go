package rollout

import (
	"context"
	"time"

	"signet.example/signet/internal/audit"
)

// InstanceID identifies a running process: 16 random octets drawn at start.
type InstanceID [16]byte

// Instance is the report of a running process on its profiles.
type Instance struct {
	ID         InstanceID
	Name       string    // for people: host, and address of the API
	Generation uint64    // number of reload requests to all instances when this one last read its files
	Digest     [32]byte  // of the set in effect: profile.Set.Digest
	Count      int       // profiles in the set in effect
	Failure    string    // why its files were refused when last read, so that an older set is in effect; empty: they are in effect
	At         time.Time // of this report, by the database's clock
}

// Store keeps the reports of all instances. Like heartbeats they need not be durable: a lost report is sent again.
type Store interface {
	// ReportProfiles replaces the report of an instance and writes the events, in one transaction. With ask, it also
	// asks every instance to read its files, and the reporting instance counts as having done so. It returns the
	// generation of the report.
	ReportProfiles(ctx context.Context, report Instance, ask bool, events []audit.Event) (generation uint64, err error)
	// ProfileGeneration returns the number of reload requests to all instances so far.
	ProfileGeneration(ctx context.Context) (uint64, error)
	// ProfileReports returns the reports of the instances that reported their progress (revocation.ProgressStore) at
	// most maxAge ago, sorted by name.
	ProfileReports(ctx context.Context, maxAge time.Duration) ([]Instance, error)
}
