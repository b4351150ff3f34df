package auth_test

import (
	"testing"

	"signet.example/signet/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }
