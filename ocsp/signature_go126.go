//go:build !go1.27

package ocsp

import "crypto"

// checkLaterSignature verifies signatures by algorithms that later toolchains bring; this one brings none.
func checkLaterSignature(OID, []byte, []byte, crypto.PublicKey) error { return errAlgorithm }
