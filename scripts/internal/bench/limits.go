package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/jackc/pgx/v5/pgxpool"
)

// limits measures the rates that no certificate authority on this machine can exceed.
func limits(ctx context.Context, b *bench) error {
	for _, measure := range []func(context.Context, *bench) (*limit, error){signatures, durableWrites, durableInserts(1), durableInserts(16), durableInserts(64)} {
		if _, err := measure(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// signatures measures the rate of ECDSA P-256 signatures on all processors.
func signatures(ctx context.Context, b *bench) (*limit, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("to be signed"))
	return b.limit(ctx, load{name: "limit/ecdsa-p256-sign", callers: runtime.NumCPU(), do: func(context.Context, int, int) error {
		_, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	}})
}

// durableWrites measures the rate at which one writer can write durably to the disk.
func durableWrites(ctx context.Context, b *bench) (*limit, error) {
	file, err := os.Create(filepath.Join(b.dir, "durable"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	block := make([]byte, 4096)
	return b.limit(ctx, load{name: "limit/fsync", do: func(context.Context, int, int) error {
		if _, err := file.Write(block); err != nil {
			return err
		}
		return file.Sync()
	}})
}

// durableInserts measures the rows a second that PostgreSQL confirms to bare pgx, one row a transaction.
func durableInserts(connections int) func(context.Context, *bench) (*limit, error) {
	return func(ctx context.Context, b *bench) (*limit, error) {
		config, err := pgxpool.ParseConfig(b.database)
		if err != nil {
			return nil, err
		}
		config.MaxConns = int32(connections)
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS bench_limit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)"); err != nil {
			return nil, err
		}
		body := make([]byte, 600) // about a certificate
		found, err := b.limit(ctx, load{name: fmt.Sprintf("limit/pgx-insert/c%d", connections), callers: connections, do: func(ctx context.Context, _, _ int) error {
			_, err := pool.Exec(ctx, "INSERT INTO bench_limit (body) VALUES ($1)", body)
			return err
		}})
		if err == nil {
			_, err = pool.Exec(ctx, "DROP TABLE bench_limit")
		}
		return found, err
	}
}

// limit measures a load and returns it as the limit of another.
func (b *bench) limit(ctx context.Context, l load) (*limit, error) {
	r, err := b.measure(ctx, l)
	if err != nil {
		return nil, err
	}
	return &limit{r.Name, r.Value}, nil
}
