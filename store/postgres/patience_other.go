//go:build !linux

package postgres

import "time"

// setUserTimeout does nothing: keep-alives, and waiting for a time that is bounded, are what there is.
func setUserTimeout(uintptr, time.Duration) error { return nil }
