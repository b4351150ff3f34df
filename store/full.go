package store

import "signet.example/signet/pki"

// DiskFull is the error of either database for a disk without space.
func DiskFull(op string, cause error) error {
	return pki.Errorf(pki.KindUnavailable, op, "%w: %w", pki.ErrDiskFull, cause).
		WithHint("make space there: nothing is issued or revoked until then, and all goes on by itself")
}
