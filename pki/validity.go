package pki

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// epochZero is Monday 2020-01-06 00:00:00 UTC in Unix seconds.
	epochZero   = 1578268800
	epochLength = 7 * 24 * 60 * 60
	// epochGrace is how long after its end a week counts as passed, to allow for slow clocks.
	epochGrace = 24 * 60 * 60
)

// Epoch is a week of expiry, counted from Monday 2020-01-06 UTC. EpochForever holds every certificate that ends after
// week 65534, 99991231235959Z included, and never passes.
type Epoch uint16

// EpochForever is the last epoch. It never passes, so its certificates are never dropped.
const EpochForever Epoch = 65535

// EpochAt returns the epoch of a notAfter in Unix seconds, or an error for one before 2020-01-06. It computes in int64
// seconds because time.Duration overflows after 292 years.
func EpochAt(notAfter int64) (Epoch, error) {
	if notAfter < epochZero {
		return 0, fmt.Errorf("notAfter %s is before 2020-01-06, where the calendar of serials begins",
			time.Unix(notAfter, 0).UTC().Format(time.RFC3339))
	}
	week := (notAfter - epochZero) / epochLength
	if week >= int64(EpochForever) {
		return EpochForever, nil
	}
	return Epoch(week), nil
}

// ParseEpoch reads the decimal form used in URLs: no sign, no leading zero.
func ParseEpoch(text string) (Epoch, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("epoch %q: want a decimal number from 0 to 65535 without leading zeros", clip(text))
	}
	return Epoch(n), nil
}

// Start returns the first Unix second of the week.
func (e Epoch) Start() int64 { return epochZero + int64(e)*epochLength }

// Passed reports whether every certificate of the week has expired at now (Unix seconds), with a day of grace for slow
// clocks. EpochForever never passes.
func (e Epoch) Passed(now int64) bool {
	return e != EpochForever && now >= e.Start()+epochLength+epochGrace
}

// FirstEpoch returns the first epoch that has not passed at now, in Unix seconds.
func FirstEpoch(now int64) Epoch {
	first, err := EpochAt(now)
	if err != nil || first == 0 || (first - 1).Passed(now) {
		return first
	}
	return first - 1 // its day of grace
}

// String returns the decimal form used in URLs.
func (e Epoch) String() string { return strconv.FormatUint(uint64(e), 10) }

// BlockSize is the number of indices of an epoch that share one CRL shard. A list of all of them takes 0.9 MiB, 1.3 MiB
// with reasons and invalidity dates. Migrations and certificates depend on it: decision 1420.
const BlockSize = 1 << 14

// Shard names one CRL shard of an issuer: block Block of the indices of week Epoch.
type Shard struct {
	Epoch Epoch
	Block uint32
}

// Shard returns the shard that a position belongs to.
func (p Position) Shard() Shard { return Shard{p.Epoch, uint32(p.Index / BlockSize)} }

// String returns the form used in URLs: "{epoch}-{block}".
func (s Shard) String() string {
	return s.Epoch.String() + "-" + strconv.FormatUint(uint64(s.Block), 10)
}
