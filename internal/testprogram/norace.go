//go:build !race

package testprogram

// Race says whether the race detector is in the tests.
const Race = false
