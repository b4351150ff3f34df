package storetest_test

import (
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/store"
	"signet.example/signet/store/storetest"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return testdb.SQLite(t) })
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return testdb.Postgres(t) })
}
