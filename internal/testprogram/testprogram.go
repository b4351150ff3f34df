// Package testprogram builds the signet that tests of the whole program run, with the race detector or without.
package testprogram

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build builds the program into a directory and returns its path. A race that it finds while it runs is written to its
// standard error and makes it end with status 66.
func Build(dir string, race bool) (string, error) {
	program := filepath.Join(dir, "signet")
	args := []string{"build", "-o", program}
	if race {
		// Stretching a passphrase takes a hundred times as long under the detector, and every command that opens a key does
		// it. The function that does shares nothing with anybody.
		args = append(args, "-race", "-gcflags=golang.org/x/crypto/scrypt=-race=false")
	}
	if out, err := exec.Command("go", append(args, "signet.example/signet/cmd/signet")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build signet: %w\n%s", err, out)
	}
	return program, nil
}
