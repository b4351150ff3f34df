package rollout

import (
	"context"
	"time"

	"signet.example/signet/internal/audit"
)

// InstanceID names a running process: 16 octets drawn at start.
type InstanceID [16]byte

// Instance is what a running process says of its profiles.
type Instance struct {
	ID         InstanceID
	Name       string    // for people: host, and address of the API
	Generation uint64    // how often every instance had been asked to read its files when this one last did
	Digest     [32]byte  // of the set in effect: profile.Set.Digest
	Count      int       // profiles in it
	Failure    string    // why its files were refused when it last read them, and an older set is in effect; empty: they are in effect
	At         time.Time // of this report, by the database's clock
}

// Store keeps what every instance says. Reports are bookkeeping, as heartbeats are: what a lost one said is said again.
type Store interface {
	// ReportProfiles replaces the report of an instance and writes the events, in one transaction. With ask, it asks every
	// instance to read its files, and the report is that of one that has done so. It returns the generation of the report.
	ReportProfiles(ctx context.Context, report Instance, ask bool, events []audit.Event) (generation uint64, err error)
	// ProfileGeneration returns how often every instance was asked.
	ProfileGeneration(ctx context.Context) (uint64, error)
	// ProfileReports returns the reports of the instances that reported their progress (revocation.Progress) at most maxAge ago,
	// by name.
	ProfileReports(ctx context.Context, maxAge time.Duration) ([]Instance, error)
}
