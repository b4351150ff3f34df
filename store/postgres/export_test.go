package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// TestingOnlyPool is the pool, for a process under test that stops inside a transaction.
func (s *Store) TestingOnlyPool() *pgxpool.Pool { return s.pool }

// TestingOnlyTranslate is how errors of a database that is open are classified.
var TestingOnlyTranslate = translate
