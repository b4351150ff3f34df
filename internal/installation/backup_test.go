package installation_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// backup writes a backup into a file.
func backup(t *testing.T, c *settings.Config) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := installation.Backup(t.Context(), c, &out, time.Now()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "signet.backup")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBackupAndRestore: everything is there again, nothing can be handed out twice, and the audit log goes on.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	for name, urls := range databases(t) {
		t.Run(name, func(t *testing.T) {
			_, config := initialize(t, urls[0])
			archive := backup(t, config)
			dir := filepath.Join(t.TempDir(), "restored")
			done, err := installation.Restore(t.Context(), installation.RestoreConfig{Archive: archive, Dir: dir, Database: urls[1], Unsafe: true})
			if err != nil {
				t.Fatal(err)
			}
			if done.Manifest.Database != name || done.Advanced.Epochs == 0 || done.Advanced.Ledger != store.LostSequences {
				t.Errorf("done: %+v", done)
			}
			before, after := open(t, config), open(t, load(t, done.Config))
			sameIssuers(t, before, after)
			if err := verifyAudit(t.Context(), after); err != nil {
				t.Error(err)
			}
			for _, key := range []string{"keys/root.key", "keys/issuing.key", "root.pem"} {
				old, err := os.ReadFile(filepath.Join(config.Dir, key))
				if err != nil {
					t.Fatal(err)
				}
				if restored, err := os.ReadFile(filepath.Join(dir, key)); err != nil || !bytes.Equal(old, restored) {
					t.Errorf("%s is not what it was: %v", key, err)
				}
			}
			if _, err := installation.Restore(t.Context(), installation.RestoreConfig{Archive: archive, Dir: dir, Database: urls[1], Unsafe: true}); pki.KindOf(err) != pki.KindConflict {
				t.Errorf("restoring over what is there gives %v", err)
			}
			if name == "postgres" {
				_, err := installation.Restore(t.Context(), installation.RestoreConfig{Archive: archive, Dir: filepath.Join(t.TempDir(), "new"), Database: urls[0], Unsafe: true})
				if pki.KindOf(err) != pki.KindConflict {
					t.Errorf("restoring into a database in use gives %v", err)
				}
			}
		})
	}
}

// The tables of another build would be written down as this one's, which neither could restore.
func TestBackupOfAnotherBuild(t *testing.T) {
	t.Parallel()
	for name, urls := range databases(t) {
		t.Run(name, func(t *testing.T) {
			_, config := initialize(t, urls[0])
			driver, source := "pgx", config.Database
			if path, ok := config.SQLitePath(); ok {
				driver, source = "sqlite", path
			}
			db, err := sql.Open(driver, source)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, change := range []string{`UPDATE schema_files SET sha256 = 'another'`, `UPDATE schema_migrations SET dirty = true`} {
				if _, err := db.Exec(change); err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				_, err := installation.Backup(t.Context(), config, &out, time.Now())
				if schema, ok := errors.AsType[*migrations.SchemaError](err); !ok || schema.Differs == schema.Dirty || pki.KindOf(err) != pki.KindFailedPrecondition || out.Len() != 0 {
					t.Errorf("%s: %d octets, %v", change, out.Len(), err)
				}
			}
		})
	}
}

// A restore that is killed leaves nothing that can be served: its books were perhaps not moved on. It panics here where
// it asks for the time, and so ends without clearing up, as by a kill.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	for name, urls := range databases(t) {
		t.Run(name, func(t *testing.T) {
			_, config := initialize(t, urls[0])
			archive := backup(t, config)
			for killedAt := 1; ; killedAt++ {
				r := installation.RestoreConfig{Archive: archive, Dir: filepath.Join(t.TempDir(), "restored"), Unsafe: true}
				if name == "postgres" {
					r.Database = testdb.EmptyURL(t)
				}
				asked, done := 0, (*installation.Restored)(nil)
				r.Now = func() time.Time {
					if asked++; asked == killedAt {
						panic("killed")
					}
					return time.Now()
				}
				func() {
					defer func() { _ = recover() }() // it was killed
					var err error
					if done, err = installation.Restore(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}()
				if done != nil {
					if killedAt == 1 {
						t.Error("it was never killed")
					}
					if db := open(t, load(t, done.Config)); verifyAudit(t.Context(), db) != nil {
						t.Error("the audit log of what was restored is not whole")
					}
					return
				}
				left := settings.State{Dir: r.Dir}
				if _, err := os.Stat(left.Keys()); err != nil {
					t.Fatalf("killed at %d, it left nothing: %v", killedAt, err)
				}
				if _, err := settings.Load(left.Config(), os.Getenv); pki.KindOf(err) != pki.KindNotFound {
					t.Errorf("killed at %d, it left what can be served: %v", killedAt, err)
				}
				if _, err := installation.Restore(t.Context(), r); pki.KindOf(err) != pki.KindConflict {
					t.Errorf("restoring over it: %v", err)
				}
			}
		})
	}
}

// A log of another file's writes, left behind when the file was moved away, would be played into the restored one.
func TestRestoreBesideALog(t *testing.T) {
	t.Parallel()
	_, config := initialize(t, "sqlite:signet.db")
	archive := backup(t, config)
	db := open(t, config)
	if err := db.AppendAudit(t.Context(), []audit.Event{{Actor: "later", Action: "a.b", Outcome: audit.OK}}); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(config.Dir, "signet.db-wal"))
	if err != nil || len(log) == 0 {
		t.Fatalf("a log of %d octets, %v", len(log), err)
	}
	for _, name := range []string{"signet.db-wal", "signet.db-journal"} {
		dir := t.TempDir()
		left := filepath.Join(dir, name)
		if err := os.WriteFile(left, log, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = installation.Restore(t.Context(), installation.RestoreConfig{Archive: archive, Dir: dir, Unsafe: true})
		if pki.KindOf(err) != pki.KindConflict || err == nil || !strings.Contains(err.Error(), left) {
			t.Errorf("restored beside the log of another file: %v", err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("what was there: %v, %v", files, err)
		}
	}
}

// sameIssuers compares the issuers and their certificates, which live in partitions.
func sameIssuers(t *testing.T, before, after store.Store) {
	t.Helper()
	was, err := before.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	is, err := after.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(was) != len(is) {
		t.Fatalf("%d issuers, want %d", len(is), len(was))
	}
	for i := range was {
		if was[i].ID != is[i].ID || !bytes.Equal(was[i].Certificates[0].DER, is[i].Certificates[0].DER) {
			t.Errorf("issuer %d is %+v, want %+v", i, is[i], was[i])
		}
	}
	count, err := after.CountCertificates(t.Context(), inventory.Filter{Now: time.Now()})
	if err != nil || count.N != 2 {
		t.Errorf("%d certificates, %v; want those of both issuers", count.N, err)
	}
}

// TestHostileBackups: a backup is a foreign file. It writes nowhere but where a backup does, and a damaged one leaves
// nothing behind.
func TestHostileBackups(t *testing.T) {
	t.Parallel()
	_, config := initialize(t, "sqlite:signet.db")
	good, err := os.ReadFile(backup(t, config))
	if err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{
		"empty":            nil,
		"no gzip":          []byte("PK\x03\x04"),
		"cut short":        good[:len(good)/2],
		"escapes":          rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "keys/root.key", "../root.key") }),
		"absolute":         rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "keys/root.key", "/keys/root.key") }),
		"link":             rewrite(t, good, func(h *tar.Header, _ []byte) { link(h, "keys/root.key") }),
		"unknown file":     rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "keys/root.key", "authorized_keys") }),
		"file missing":     rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "keys/root.key", "keys/other.key") }),
		"no manifest":      rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "manifest.json", "root.pem") }),
		"future format":    rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "manifest.json", `"format": 1`, `"format": 9`) }),
		"other schema":     rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "manifest.json", `"schema": `, `"schema":9`) }),
		"other build":      rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "manifest.json", `"digest": "`, `"digits": "`) }),
		"other kind":       rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "manifest.json", `"sqlite"`, `"mssqls"`) }),
		"bad config":       rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "signet.yaml", "public_url", "public_uri") }),
		"no database":      rewrite(t, good, func(h *tar.Header, _ []byte) { replace(h, "database/signet.db", "profiles/x.yaml") }),
		"damaged database": rewrite(t, good, func(h *tar.Header, b []byte) { change(h, b, "database/signet.db", "SQLite format", "SQLite farmot") }),
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			path := filepath.Join(parent, "backup")
			if err := os.WriteFile(path, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(parent, "a", "restored")
			if _, err := installation.Restore(t.Context(), installation.RestoreConfig{Archive: path, Dir: dir}); err == nil {
				t.Fatal("it was restored")
			}
			left, err := filepath.Glob(filepath.Join(parent, "a", "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// rewrite passes every file of an archive through edit.
func rewrite(t *testing.T, archive []byte, edit func(h *tar.Header, body []byte)) []byte {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	from, to := tar.NewReader(zipped), tar.NewWriter(zip)
	for {
		header, err := from.Next()
		if err != nil {
			break
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(from); err != nil {
			t.Fatal(err)
		}
		edit(header, body.Bytes())
		if header.Typeflag != tar.TypeReg {
			body.Reset()
		}
		if err := to.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(body.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func replace(h *tar.Header, name, with string) {
	if h.Name == name {
		h.Name = with
	}
}

func link(h *tar.Header, name string) {
	if h.Name == name {
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0
	}
}

// change replaces text by text of the same length.
func change(h *tar.Header, body []byte, name, old, text string) {
	if h.Name == name {
		copy(body, strings.Replace(string(body), old, text, 1))
	}
}
