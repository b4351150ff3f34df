// Package sqlite stores Signet's data in one SQLite file, for one instance. It is the embedded default. It behaves like
// store/postgres, and store/storetest tests both.
//
// One connection writes, in immediate transactions, and a pool reads. Never open or copy the file by other means while
// a Store has it open: closing any descriptor of the file drops the POSIX locks of the whole process.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// Config says which file to open, and how.
type Config struct {
	// Path of the database file. It is created if it does not exist, readable only by its owner. Required.
	Path string

	// Purpose describes the process that has the file open, such as "signet serve", to other processes that find it
	// locked. Zero: the name of the program.
	Purpose string

	// Unsafe does not wait for the disk. For tests.
	Unsafe bool

	// Now is the clock of the database. Zero: time.Now.
	Now func() time.Time
}

// Store is an open file. It is safe for concurrent use.
type Store struct {
	path  string  // absolute
	write *sql.DB // one connection
	read  *sql.DB
	lock  locks
	now   func() time.Time
	disk  store.Tried

	mu        sync.Mutex
	recording *recordStatements // nil until the first certificate is recorded
	changed   chan struct{}     // closed and replaced after each commit that touched the ledger or ranges
	appended  uint64            // the last sequence that this process appended
	reranged  uint64            // how often this process has changed ranges
	logged    logged
}

// logged is the result of loggedUntilYesterday and the time at which it was read.
type logged struct{ until, read time.Time }

// LockedError says that another process has the file open.
type LockedError struct {
	Path   string
	Holder string // as the other process wrote it: purpose, process id and start
}

// Error returns a message with the file and the other process.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is in use by %s", e.Path, e.Holder)
}

// Open locks and opens the file, and migrates its schema to the version of this binary.
func Open(ctx context.Context, config Config) (*Store, error) {
	const op = "open database"
	if config.Path == "" {
		return nil, pki.Errorf(pki.KindInvalid, op, "no path").InField("database")
	}
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("database")
	}
	lock, err := lockFile(path, config.Purpose)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, lock: lock, now: config.Now, changed: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.open(ctx, path, config.Unsafe); err != nil {
		_ = s.Close() // the returned error matters more
		return nil, err
	}
	return s, nil
}

// Status returns the state of a file's schema without migrating it. The file must exist; another process may have it
// open.
func Status(ctx context.Context, config Config) (migrations.Status, error) {
	const op = "read schema version"
	if _, err := os.Stat(config.Path); err != nil {
		return migrations.Status{}, pki.Errorf(pki.KindNotFound, op, "%w", err).InField("database")
	}
	lock, err := lockFile(config.Path, config.Purpose)
	if _, locked := errors.AsType[*LockedError](err); locked {
		return StatusInUse(ctx, config.Path)
	}
	if err != nil {
		return migrations.Status{}, err
	}
	defer lock.Close()
	db, err := sql.Open("sqlite", dsn(config.Path, false, false))
	if err != nil {
		return migrations.Status{}, translateOpening(op, err)
	}
	defer db.Close()
	status, err := migrations.SQLiteStatus(ctx, db)
	return status, translateOpening(op, err)
}

// StatusInUse is Status for a file that another process may have open. It only reads, and does not keep another process
// from opening the file. This process must not have a Store of it.
func StatusInUse(ctx context.Context, path string) (migrations.Status, error) {
	const op = "read schema version"
	if _, err := os.Stat(path); err != nil {
		return migrations.Status{}, pki.Errorf(pki.KindNotFound, op, "%w", err).InField("database")
	}
	db, err := sql.Open("sqlite", dsn(path, true, false))
	if err != nil {
		return migrations.Status{}, translateOpening(op, err)
	}
	defer db.Close()
	status, err := migrations.SQLiteInUse(ctx, db)
	return status, translateOpening(op, err)
}

func (s *Store) open(ctx context.Context, path string, unsafe bool) error {
	const op = "open database"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return pki.Errorf(pki.KindFailedPrecondition, op, "%w", err).InField("database").
			WithHint("is the directory there, and may this user write to it?")
	}
	if err := file.Close(); err != nil {
		return translateOpening(op, err)
	}
	if s.write, err = sql.Open("sqlite", dsn(path, false, unsafe)); err != nil {
		return translateOpening(op, err)
	}
	s.write.SetMaxOpenConns(1)
	if err := migrations.SQLite(ctx, path, s.write); err != nil {
		return translateOpening(op, err)
	}
	if err := forgetSamples(ctx, s.write); err != nil {
		return translateOpening(op, err)
	}
	if s.read, err = sql.Open("sqlite", dsn(path, true, unsafe)); err != nil {
		return translateOpening(op, err)
	}
	// The lock proves that the process with the lease has ended.
	if _, err := s.write.ExecContext(ctx, `UPDATE publication_series SET lease_until = 0 WHERE lease_until > 0`); err != nil {
		return translateOpening(op, err)
	}
	s.read.SetMaxOpenConns(8)
	s.read.SetMaxIdleConns(8)
	return translateOpening(op, s.read.PingContext(ctx))
}

// forgetSamples removes the samples that ANALYZE took of the tables. With samples SQLite plans a statement again for
// every value bound to it, which takes five times as long as looking up a certificate.
func forgetSamples(ctx context.Context, db *sql.DB) error {
	var sampled bool
	err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat4')`).Scan(&sampled)
	if err == nil && sampled {
		// The second statement loads what is left.
		_, err = db.ExecContext(ctx, `DELETE FROM sqlite_stat4; ANALYZE sqlite_schema`)
	}
	return err
}

// Ping checks that the database answers and its disk can be written.
func (s *Store) Ping(ctx context.Context) error {
	const op = "ping database"
	if err := s.read.PingContext(ctx); err != nil {
		return translate(op, err)
	}
	if s.disk.Lately(s.now()) {
		return nil
	}
	switch err := s.tryDisk(); {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return store.DiskFull(op, err)
	case err != nil:
		return pki.Errorf(pki.KindUnavailable, op, "%w", err).WithHint(mayWrite)
	}
	s.disk.Well(s.now())
	return nil
}

// tryDisk writes a file beside the database and removes it. SQLite reports a full disk only when a change needs more
// room than its files already have.
func (s *Store) tryDisk() error {
	beside, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(beside), filepath.Base(beside)+"-try*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 256<<10))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Close closes every connection and unlocks the file.
func (s *Store) Close() error {
	var failed error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			if err := db.Close(); err != nil && failed == nil {
				failed = err
			}
		}
	}
	if err := s.lock.Close(); err != nil && failed == nil {
		failed = err
	}
	return translate("close database", failed)
}

func dsn(path string, readOnly, unsafe bool) string {
	query := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)"}}
	synchronous := "FULL"
	if unsafe {
		synchronous = "OFF"
	}
	if readOnly {
		query["_pragma"] = append(query["_pragma"], "query_only(1)", "cache_size(-8192)") // KiB
	} else {
		// SQLite searches a large cache as a whole at every commit. With a longer log, pages that change often are
		// written to the file less often.
		query["_pragma"] = append(query["_pragma"], "journal_mode(WAL)", "synchronous("+synchronous+")",
			"recursive_triggers(1)", "cache_size(-16384)", "wal_autocheckpoint(8000)")
		query.Set("_txlock", "immediate")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// locks are locks that one process holds together.
type locks []*flock.Flock

// Close releases the locks.
func (l locks) Close() (err error) {
	for _, lock := range l {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// lockFile takes the lock that lets one process at a time open a database. A symbolic link and its target have a lock
// each; the target may come into being only after the link was locked. Hard links and bind mounts are not detected.
func lockFile(path, purpose string) (held locks, err error) {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil { // otherwise one lock could have two names
		path = filepath.Join(dir, filepath.Base(path))
	}
	names := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		names = append(names, target)
	}
	for _, name := range names {
		lock, err := lockName(name, purpose)
		if err != nil {
			_ = held.Close() // the returned error matters more
			return nil, err
		}
		held = append(held, lock)
	}
	return held, nil
}

// lockName takes one lock and writes the holder into it.
func lockName(path, purpose string) (*flock.Flock, error) {
	const op = "open database"
	name := path + ".lock"
	lock := flock.New(name, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "lock: %w", err).InField("database").
			WithHint("is the directory there, and may this user write to it?")
	}
	if !ok {
		holder, err := os.ReadFile(name)
		if err != nil || len(holder) == 0 {
			holder = []byte("another process")
		}
		return nil, (&pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Err: &LockedError{path, strings.TrimSpace(string(holder))}}).
			WithHint("stop the other process, or use PostgreSQL to run several instances")
	}
	if purpose == "" {
		purpose = filepath.Base(os.Args[0])
	}
	signature := fmt.Sprintf("%s (process %d)\n", purpose, os.Getpid())
	if err := os.WriteFile(name, []byte(signature), 0o600); err != nil {
		_ = lock.Close() // the returned error matters more
		return nil, translate(op, err)
	}
	return lock, nil
}

// inTx runs do in one immediate transaction and commits it unless do fails. The transaction has one time.
func (s *Store) inTx(ctx context.Context, op string, do func(tx *sql.Tx, now time.Time) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return translate(op, err)
	}
	if err := do(tx, s.now().UTC().Truncate(time.Microsecond)); err != nil {
		_ = tx.Rollback() // the returned error matters more
		return translate(op, err)
	}
	return translate(op, tx.Commit())
}
