//go:build go1.27

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMLDSAScripts runs the user stories that need a build with Go 1.27.
func TestMLDSAScripts(t *testing.T) {
	testscript.Run(t, stories("sqlite:signet.db", "testdata/go127"))
}
