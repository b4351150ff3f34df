package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"signet.example/signet/api/client"
	"signet.example/signet/crl"
	"signet.example/signet/internal/invariant"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// limitFiles lets no file of a running process grow beyond a size, as a full disk does: its writes fail, and nothing
// else does. It needs no privilege.
func (p *process) limitFiles(t *testing.T, size uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: size, Max: math.MaxUint64}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.cmd.Process.Pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		t.Fatal("prlimit:", errno)
	}
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// attempt is a request that can be made again.
func (s *site) attempt(t *testing.T, name string) func() (*client.Issued, error) {
	csr := request(t)
	return func() (*client.Issued, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return s.api.Issue(ctx, client.IssueRequest{CSR: csr, Profile: "server", Identifiers: []string{name}, RequestID: name})
	}
}

func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindUnavailable || e.Hint == "" {
		t.Errorf("%s on a full disk: %v", what, err)
	}
}

func wantFull(t *testing.T, what string, err error) {
	t.Helper()
	wantUnavailable(t, what, err)
	if e, ok := errors.AsType[*pki.Error](err); ok && (!strings.Contains(e.Error(), pki.ErrDiskFull.Error()) || !strings.Contains(e.Hint, "space")) {
		t.Errorf("%s on a full disk: %v; next: %s", what, err, e.Hint)
	}
}

// writable is what operators are told of the database: what /readyz says, and the metric.
func (s *site) writable(t *testing.T) (database server.ReadinessCheck, metric string) {
	t.Helper()
	var said server.Readiness
	// Get wants 200: the instance stays in rotation.
	if err := json.Unmarshal(get(t, "http://"+s.addresses.Ops+"/readyz"), &said); err != nil {
		t.Fatal(err)
	}
	for _, check := range said.Checks {
		if check.Name == "database" {
			database = check
		}
	}
	for line := range strings.Lines(string(get(t, "http://"+s.addresses.Ops+"/metrics"))) {
		if value, ok := strings.CutPrefix(line, "signet_database_writable "); ok {
			metric = strings.TrimSpace(value)
		}
	}
	return database, metric
}

// The disk under the embedded database is full: callers are told, nothing is released, status is served, and when there
// is space again the same requests succeed, once.
func TestFullDiskUnderTheDatabase(t *testing.T) {
	t.Parallel()
	s := found(t, "sqlite:signet.db")
	p := s.start(t)
	good := s.issue(t, "good.example")
	p.limitFiles(t, 0)

	late := s.attempt(t, "late.example")
	for range 3 {
		_, err := late()
		wantUnavailable(t, "issue", err)
	}
	_, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: good.DER, Reason: pki.Superseded})
	wantUnavailable(t, "revoke", err)
	if found, err := s.api.CheckCertificate(t.Context(), good.DER, time.Time{}); err != nil || found.Verdict != client.VerdictInForce {
		t.Errorf("checked on a full disk: %+v, %v", found, err)
	}
	eventually(t, "operators are told", func() bool {
		database, metric := s.writable(t)
		return database.State == "warning" && metric == "0"
	})
	if page, err := s.api.Certificates(t.Context(), client.CertificateFilter{Identifier: "late.example"}, client.Page{}); err != nil || len(page.Items) != 0 {
		t.Errorf("what was refused is there: %+v, %v", page, err)
	}

	p.limitFiles(t, math.MaxUint64)
	var issued *client.Issued
	eventually(t, "there is space again, and the request succeeds", func() bool { issued, err = late(); return err == nil })
	again, err := late()
	if err != nil || !again.Repeated || again.Certificate.Serial != issued.Certificate.Serial {
		t.Errorf("the request that failed and then succeeded is not one: %+v, %v", again, err)
	}
	s.revoke(t, good, pki.Superseded)
	system := invariant.System{API: s.api, Issued: [][]byte{good.DER, issued.Certificate.DER}}
	invariant.All(t, system)
	p.stop(t)
	s.start(t)
	invariant.All(t, system)
}

// A disk that is really full, where the test may mount one: what the database can reuse it does, and then says that the
// disk is full, to callers and to operators.
func TestFullDiskMounted(t *testing.T) {
	t.Parallel()
	for name, disk := range map[string]struct {
		size     string
		database func(t *testing.T, mount string) string
	}{
		"sqlite":   {"size=4m", func(_ *testing.T, mount string) string { return "sqlite:" + filepath.Join(mount, "signet.db") }},
		"postgres": {"size=32m", func(t *testing.T, mount string) string { return testdb.Durable(t).EmptyURLOn(t, mount) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if mount := mountDisk(t, disk.size); mount != "" {
				fillDisk(t, mount, disk.database(t, mount))
			}
		})
	}
}

// mountDisk mounts a small disk, or returns nothing where none may be mounted.
func mountDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "disk") // t.TempDir lets PostgreSQL's user not pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mount := filepath.Join(dir, "disk")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, size+",mode=700"); err != nil {
		t.Logf("no disk may be mounted here (%v): TestFullDiskUnderTheDatabase does it in another way", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mount
}

// fillDisk fills the disk under the database of a server, and makes space again.
func fillDisk(t *testing.T, mount, database string) {
	s := found(t, database)
	p := s.start(t)
	good := s.issue(t, "good.example")
	system := invariant.System{API: s.api, Issued: [][]byte{good.DER}}
	if database, metric := s.writable(t); database.State != "ok" || metric != "1" {
		t.Errorf("with space operators are told: %+v, %s", database, metric)
	}
	ballast := filepath.Join(mount, "ballast")
	file, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	file.Close()
	var refused string
	for n := 0; ; n++ {
		name := "host" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + ".example"
		issued, err := s.attempt(t, name)()
		if err != nil {
			wantFull(t, "issue", err)
			refused = name
			break
		}
		system.Issued = append(system.Issued, issued.Certificate.DER)
		if n == 676 {
			t.Fatal("the disk is never full")
		}
	}
	eventually(t, "operators are told", func() bool {
		database, metric := s.writable(t)
		return database.State == "warning" && strings.Contains(database.Detail, "its disk is full") && metric == "0"
	})
	if page, err := s.api.Certificates(t.Context(), client.CertificateFilter{Identifier: refused}, client.Page{}); err != nil || len(page.Items) != 0 {
		t.Errorf("what was refused is there: %+v, %v", page, err)
	}
	late := s.attempt(t, "late.example")
	const failures = 1 + 3
	for range 3 {
		_, err := late()
		wantFull(t, "issue", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	var issued *client.Issued
	eventually(t, "there is space again", func() bool { issued, err = late(); return err == nil })
	system.Issued = append(system.Issued, issued.Certificate.DER)
	if database, metric := s.writable(t); database.State != "ok" || metric != "1" {
		t.Errorf("with space again operators are told: %+v, %s", database, metric)
	}
	eventually(t, "the audit log has, or counts, what failed", func() bool { return s.failures(t) >= failures })
	s.revoke(t, good, pki.Superseded)
	invariant.All(t, system)
	p.stop(t)
}

// failures is how many requests failed, by the audit log: each that it has, and those that it counts.
func (s *site) failures(t *testing.T) (failed int) {
	t.Helper()
	page, err := s.api.AuditEvents(t.Context(), client.AuditFilter{Action: "certificate.issue", PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range page.Events {
		switch left, counts := event.Detail["left_out"]; {
		case event.Outcome != "failed":
		case counts:
			n, err := strconv.Atoi(left)
			if err != nil {
				t.Fatal(err)
			}
			failed += n
		default:
			failed++
		}
	}
	return failed
}

// The disk under the state directory and the copies of lists is full, and the database is elsewhere: issuing, revoking
// and serving go on; copies and marks stay whole as they were, and follow when there is space.
func TestFullDiskUnderTheStateDirectory(t *testing.T) {
	t.Parallel()
	s := found(t, testdb.EmptyURL(t))
	copies := filepath.Join(t.TempDir(), "copies")
	s.env = []string{"SIGNET_CRL_DIRECTORY=" + copies}
	p := s.start(t)
	first := s.issue(t, "first.example")
	path := filepath.Join(copies, "crl", first.Issuer.String()+".crl")
	entries := func(path string) int {
		der, err := os.ReadFile(path)
		if err != nil {
			return -1
		}
		list, err := crl.Parse(der)
		if err != nil {
			t.Fatalf("%s is torn: %v", path, err)
		}
		return list.Len()
	}
	s.revoke(t, first, pki.Superseded)
	eventually(t, "the copy of the list", func() bool { return entries(path) == 1 })
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	p.limitFiles(t, 0)
	second := s.issue(t, "second.example")
	s.revoke(t, second, pki.KeyCompromise)
	if found, err := s.api.CheckCertificate(t.Context(), second.DER, time.Time{}); err != nil || found.Verdict != client.VerdictRevoked {
		t.Errorf("checked on a full disk: %+v, %v", found, err)
	}
	system := invariant.System{API: s.api, Issued: [][]byte{first.DER, second.DER}}
	invariant.All(t, system) // lists are served from memory
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
		t.Errorf("the copy changed on a full disk: %d octets, %v", len(now), err)
	}
	left, err := filepath.Glob(filepath.Join(copies, "crl", "*"))
	if err != nil {
		t.Fatal(err)
	}

	p.limitFiles(t, math.MaxUint64)
	eventually(t, "there is space again, and the copy follows", func() bool { return entries(path) == 2 })
	if now, err := filepath.Glob(filepath.Join(copies, "crl", "*")); err != nil || len(now) > len(left)+1 {
		t.Errorf("files are left behind: %v, %v", now, err)
	}
	p.stop(t)
	marks, err := os.ReadFile(settings.State{Dir: s.dir}.HighWater())
	if err != nil || !json.Valid(marks) {
		t.Errorf("marks %q, %v", marks, err)
	}
	s.start(t)
	invariant.All(t, system)
}
