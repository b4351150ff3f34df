// Package storetest holds both databases to the contracts of package store and of the rooms it collects. One file per
// feature; Run runs them all.
package storetest

import (
	"testing"

	"signet.example/signet/store"
)

// Run runs the whole suite. open makes a fresh, empty store that is closed when its test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("approval", func(t *testing.T) { testApproval(t, open) })
	t.Run("audit", func(t *testing.T) { testAudit(t, open) })
	t.Run("certificate", func(t *testing.T) { testCertificate(t, open) })
	t.Run("credential", func(t *testing.T) { testCredential(t, open) })
	t.Run("inventory", func(t *testing.T) { testInventory(t, open) })
	t.Run("issuer", func(t *testing.T) { testIssuer(t, open) })
	t.Run("ledger", func(t *testing.T) { testLedger(t, open) })
	t.Run("profile", func(t *testing.T) { testProfile(t, open) })
	t.Run("publication", func(t *testing.T) { testPublication(t, open) })
	t.Run("recovery", func(t *testing.T) { testRecovery(t, open) })
	t.Run("range", func(t *testing.T) { testRange(t, open) })
	t.Run("responder", func(t *testing.T) { testResponder(t, open) })
	t.Run("progress", func(t *testing.T) { testProgress(t, open) })
}
