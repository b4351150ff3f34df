package testdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"signet.example/signet/store/postgres"
)

// shared is the server of this test binary, started by the first test that asks.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs the tests of a package and stops the package's PostgreSQL afterwards. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to clean up: it returns the exit status.
func Run(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		shared.server.Stop()
	}
	return code
}

// URL makes a fresh, migrated database on the test binary's server and returns its connection string, also good for
// processes under test. The database is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start(false) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.URL(t)
}

// Durable starts a PostgreSQL server of the test's own with fsync, full_page_writes and synchronous_commit on: for
// tests that kill it, and for benchmarks. It is stopped and removed when the test ends.
func Durable(t testing.TB) *Server {
	t.Helper()
	s, err := start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Server is a running throw-away PostgreSQL, on a Unix socket only.
type Server struct {
	dir     string
	durable bool
	attr    *syscall.SysProcAttr
	cmd     *exec.Cmd

	template    sync.Once
	templateErr error
	count       atomic.Int64
}

// URL makes a fresh, migrated database, dropped when the test ends.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	s.template.Do(func() { s.templateErr = s.makeTemplate() })
	if s.templateErr != nil {
		t.Fatal(s.templateErr)
	}
	return s.create(t, "TEMPLATE template_signet STRATEGY FILE_COPY")
}

// EmptyURL makes a fresh database without any schema, dropped when the test ends.
func (s *Server) EmptyURL(t testing.TB) string {
	t.Helper()
	return s.create(t, "")
}

// EmptyURL makes a fresh database without any schema on the test binary's server.
func EmptyURL(t testing.TB) string {
	t.Helper()
	URL(t)
	return shared.server.EmptyURL(t)
}

// EmptyURLOn makes a fresh database without any schema, whose tables are in an empty directory: a disk that the test mounted, say. What the server
// writes ahead is elsewhere. While that disk is full no checkpoint of the server succeeds, nor then does a DROP DATABASE: give the test a server of
// its own.
func (s *Server) EmptyURLOn(t testing.TB, dir string) string {
	t.Helper()
	if s.attr.Credential != nil {
		if err := os.Chown(dir, int(s.attr.Credential.Uid), int(s.attr.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	name := fmt.Sprintf("s%d", s.count.Add(1))
	if err := s.admin("CREATE TABLESPACE " + name + " LOCATION '" + dir + "'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the database is dropped
		if err := s.admin("DROP TABLESPACE " + name); err != nil {
			t.Errorf("drop test tablespace: %v", err)
		}
	})
	return s.create(t, "TABLESPACE "+name)
}

func (s *Server) create(t testing.TB, options string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", s.count.Add(1))
	if err := s.admin("CREATE DATABASE " + name + " " + options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.running() {
			if err := s.admin("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
				t.Errorf("drop test database: %v", err)
			}
		}
	})
	return s.dsn(name)
}

// Kill stops the server as a power failure would: SIGKILL to every process of it. What it had written survives, since
// the kernel does; what it only meant to write does not.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	pid := s.cmd.Process.Pid
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // so that it starts no more of them
		t.Fatalf("stop PostgreSQL: %v", err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid)) // backends lead groups of their own
	if err != nil {
		t.Fatalf("list PostgreSQL's processes: %v", err)
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill PostgreSQL: %v", err)
	}
	for _, field := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(field); err == nil {
			_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended by itself
			defer awaitEnd(child)
		}
	}
	_ = s.cmd.Wait() // says only that it was killed
	s.cmd = nil
}

// awaitEnd waits until a process that was killed has let go of its memory: PostgreSQL does not start while an old backend
// has its.
func awaitEnd(pid int) {
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Start starts the server again after Kill.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// Stop stops the server and removes its files.
func (s *Server) Stop() {
	if s.running() {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // it may be gone already
		_ = s.cmd.Wait()
	}
	os.RemoveAll(s.dir)
}

func (s *Server) running() bool { return s.cmd != nil && s.cmd.ProcessState == nil }

func (s *Server) dsn(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// admin runs a statement that makes or drops something. What others use cannot be dropped or copied; PostgreSQL waits five seconds for them to leave,
// and on a busy machine those who were told to leave take longer.
func (s *Server) admin(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := conn.Exec(ctx, statement)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "55006" || time.Now().After(deadline) { // object_in_use
			return err
		}
	}
}

func (s *Server) makeTemplate() error {
	if err := s.admin("CREATE DATABASE template_signet"); err != nil {
		return err
	}
	migrated, err := postgres.Open(context.Background(), postgres.Config{URL: s.dsn("template_signet"), Unsafe: true})
	if err != nil {
		return err
	}
	return migrated.Close()
}

// start makes a cluster and runs it.
func start(durable bool) (*Server, error) {
	bin := binDir()
	if bin == "" {
		return nil, errors.New("testdb: no PostgreSQL binaries: apt-get install postgresql, or set PG_BINDIR to the folder of initdb")
	}
	dir, err := os.MkdirTemp("", "pgtest") // short, and not the test's own: a socket path has at most 107 octets
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, durable: durable, attr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}} // dies with the test
	if os.Getuid() == 0 {                                                                                           // PostgreSQL refuses to run as root
		if s.attr.Credential, err = postgresUser(dir); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "postgres", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = s.attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("testdb: initdb: %w: %s", err, out)
	}
	if err := s.run(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// run starts the server on its cluster and waits until it answers.
func (s *Server) run() error {
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=200"}
	if s.durable {
		args = append(args, "-c", "shared_buffers=256MB")
	} else {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "shared_buffers=64MB", "-c", "autovacuum=off")
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(filepath.Join(binDir(), "postgres"), args...)
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.attr, s.dir, log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(context.Background(), s.dsn("postgres"))
		if err == nil {
			return conn.Close(context.Background())
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name()) // what can be had
			return fmt.Errorf("testdb: PostgreSQL did not start: %w: %s", err, said)
		}
	}
}

// binDir is $PG_BINDIR, else the newest of Debian's versioned folders, else where initdb is on the PATH.
func binDir() string {
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		return dir
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	version := func(dir string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); return n }
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return found[0]
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			return filepath.Dir(initdb)
		}
	}
	return ""
}

// postgresUser gives dir to the account "postgres" and returns its credential.
func postgresUser(dir string) (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("testdb: PostgreSQL refuses to run as root: %w: apt-get install postgresql", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, uid, gid)
}
