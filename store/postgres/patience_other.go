//go:build !linux

package postgres

import "time"

// setUserTimeout does nothing: keep-alives and the limits of bounded have to suffice.
func setUserTimeout(uintptr, time.Duration) error { return nil }
