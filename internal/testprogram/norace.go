//go:build !race

package testprogram

const race = false
