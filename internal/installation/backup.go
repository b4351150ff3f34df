package installation

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"time"

	"signet.example/signet/internal/settings"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store/postgres"
	"signet.example/signet/store/sqlite"
)

// A backup is a gzipped tar: manifest.json, then the database as of one moment, then the files of the state directory
// (configuration, roots, keys with each issuer's K, profiles). Keys are read after the database, so that the key of
// every issuer in the database is in the backup. They are encrypted under their passphrase, which is not in the backup.
const (
	manifestName   = "manifest.json"
	databaseFolder = "database/"
	sqliteName     = databaseFolder + "signet.db"
	backupFormat   = 1
	maxSmallFile   = 16 << 20 // bounds every part of a backup except the database, in octets
)

// stateFile matches the files of a state directory that a backup contains and a restore writes. No matching name leaves
// the directory.
var stateFile = regexp.MustCompile(`^(signet\.yaml|root\.pem|keys/[a-z0-9][a-z0-9.-]{0,63}\.(key|serial)|profiles/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml)$`)

// Manifest describes a backup.
type Manifest struct {
	Format   int       `json:"format"`
	Made     time.Time `json:"made"`
	Database string    `json:"database"` // "sqlite" or "postgres"
	Schema   uint      `json:"schema"`   // version
	Digest   string    `json:"digest"`   // of the migrations that made it
	Files    []string  `json:"files"`    // of the state directory
}

// Backup writes a backup of everything that the configuration names. Instances may be running. It refuses a database
// that another build of signet made, or that is newer, with a *migrations.SchemaError: such a build could not restore
// the backup either.
func Backup(ctx context.Context, c *settings.Config, w io.Writer, now time.Time) (*Manifest, error) {
	temporary, err := os.MkdirTemp("", "signet-backup-")
	if err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, "back up", "%w", err)
	}
	defer os.RemoveAll(temporary)
	b := &backup{config: c, temporary: temporary, manifest: Manifest{Format: backupFormat, Made: now.UTC().Truncate(time.Second), Database: "postgres"}}
	if _, ok := c.SQLitePath(); ok {
		b.manifest.Database = "sqlite"
	}
	schema, err := schemaStatus(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(); err != nil { // no program could restore it
		return nil, err
	}
	b.manifest.Schema = schema.Version
	if b.manifest.Digest, err = migrations.Digest(b.manifest.Database, b.manifest.Schema); err != nil {
		return nil, err
	}
	database, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	if b.manifest.Files, err = stateFiles(c.State(), c.ProfilesDir()); err != nil {
		return nil, err
	}
	if err := b.write(w, database); err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, "back up", "write archive: %w", err)
	}
	return &b.manifest, nil
}

// schemaStatus is DatabaseStatus without a moment in which instances cannot open a SQLite file.
func schemaStatus(ctx context.Context, c *settings.Config) (migrations.Status, error) {
	if path, ok := c.SQLitePath(); ok {
		return sqlite.StatusInUse(ctx, path)
	}
	return DatabaseStatus(ctx, c)
}

type backup struct {
	config    *settings.Config
	temporary string // directory for parts whose size must be known before they go into a tar
	manifest  Manifest
}

// source is one file of the archive.
type source struct{ name, path string }

// database writes the database into temporary files, in the order of restoring.
func (b *backup) database(ctx context.Context) ([]source, error) {
	if file, ok := b.config.SQLitePath(); ok {
		copied := filepath.Join(b.temporary, "signet.db")
		return []source{{sqliteName, copied}}, sqlite.Backup(ctx, file, copied)
	}
	var files []source
	err := postgres.Backup(ctx, postgres.Config{URL: b.config.Database}, func(name string, write func(io.Writer) error) error {
		file, err := os.Create(filepath.Join(b.temporary, name))
		if err != nil {
			return err
		}
		files = append(files, source{databaseFolder + name, file.Name()})
		return errors.Join(write(file), file.Close())
	})
	return files, err
}

// stateFiles lists the files of a state directory that go into a backup, by their names there.
func stateFiles(s settings.State, profiles string) ([]string, error) {
	names := []string{"signet.yaml", "root.pem"}
	// What stands beside a key in a token is as important as a key.
	for _, pattern := range []string{"*.key", "*.serial"} {
		keys, err := filepath.Glob(filepath.Join(s.Keys(), pattern))
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			names = append(names, "keys/"+filepath.Base(key))
		}
	}
	if profiles != "" {
		found, err := filepath.Glob(filepath.Join(profiles, "*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			names = append(names, "profiles/"+filepath.Base(file))
		}
	}
	for _, name := range names {
		if !stateFile.MatchString(name) {
			return nil, pki.Errorf(pki.KindFailedPrecondition, "back up", "%q could not be restored under its name", name).
				WithHint("rename it: letters, digits, dots and hyphens")
		}
	}
	return names, nil
}

func (b *backup) write(w io.Writer, database []source) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	text, err := json.MarshalIndent(b.manifest, "", "  ")
	if err != nil {
		return err
	}
	header := tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(text)), ModTime: b.manifest.Made}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	if _, err := archive.Write(text); err != nil {
		return err
	}
	all := database
	for _, name := range b.manifest.Files { // the configuration may have another name here
		if name == "signet.yaml" {
			all = append(all, source{name, b.config.File})
			continue
		}
		all = append(all, source{name, restored(b.config, name)})
	}
	for _, s := range all {
		if err := addFile(archive, s, b.manifest.Made); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return errors.Join(archive.Close(), zipped.Close())
}

func addFile(archive *tar.Writer, s source, made time.Time) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: path.Clean(s.name), Mode: 0o600, Size: info.Size(), ModTime: made}); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}
