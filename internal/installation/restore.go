package installation

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/settings"
	"signet.example/signet/migrations"
	"signet.example/signet/pki"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
)

// RestoreConfig says what to restore, and where.
type RestoreConfig struct {
	Archive  string           // path of a file written by Backup
	Dir      string           // state directory to create
	Database string           // zero: the one in the backup's configuration
	Unsafe   bool             // accept a PostgreSQL that can lose confirmed writes
	Now      func() time.Time // zero: time.Now
}

// Restored is the result of Restore.
type Restored struct {
	Manifest Manifest       `json:"backup"`
	Dir      string         `json:"dir"`
	Config   string         `json:"config_file"`
	Database string         `json:"database"`
	Token    string         `json:"token_file"` // a new credential: tokens are not in a backup
	Advanced store.Advanced `json:"advanced"`
	Missing  []Missing      `json:"missing,omitempty"` // on this machine
	Closed   string         `json:"closed,omitempty"`  // why the passphrase in the configured file opens no key
}

// Missing is a file or directory that a configuration names and that does not exist. It is in no backup, because it
// belongs to the machine or is the passphrase.
type Missing struct {
	Field string `json:"field"`
	Path  string `json:"path"`
}

// Restore creates a state directory and a database from a backup, moves the numbers past everything that may have been
// handed out since the backup (store.Recovery), and creates a new administrator's credential. It overwrites nothing. If
// it fails, it removes what it created. If it is killed, what it created has no configuration.
func Restore(ctx context.Context, r RestoreConfig) (done *Restored, err error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	small, manifest, err := r.readSmall()
	if err != nil {
		return nil, err
	}
	config, err := r.config(small)
	if err != nil {
		return nil, err
	}
	if err := manifest.fits(config); err != nil {
		return nil, err
	}
	state := config.State()
	if path, ok := config.SQLitePath(); ok {
		// SQLite would play these into the restored file.
		for _, file := range []string{path, path + "-wal", path + "-journal"} {
			if _, err := os.Stat(file); err == nil {
				return nil, pki.Errorf(pki.KindConflict, "restore", "%s exists already", file).
					WithHint("move it away, or name another with --database")
			}
		}
	}
	if err := state.Create(); err != nil {
		return nil, err
	}
	var undo undo
	undo.willMake(state.AdminToken())
	undo.willMake(sqliteFiles(config)...)
	undo.willFill(state.Keys())
	defer func() {
		if err != nil {
			err = errors.Join(err, undo.run())
		}
	}()
	for name, text := range small {
		undo.willMake(restored(config, name))
		if name == configName {
			continue
		}
		if err := writeRestored(config, name, text); err != nil {
			return nil, err
		}
	}
	if err := r.database(ctx, config); err != nil {
		return nil, err
	}
	done = &Restored{Manifest: *manifest, Dir: r.Dir, Config: state.Config(), Database: config.DatabaseName(),
		Token: state.AdminToken(), Missing: missing(config)}
	db, err := OpenDatabase(ctx, config, "signet restore", r.Unsafe)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if done.Closed, err = closed(ctx, db, config); err != nil {
		return nil, err
	}
	if done.Advanced, err = advance(ctx, db, r.Now(), map[string]string{"backup": manifest.Made.Format(time.RFC3339)}); err != nil {
		return nil, err
	}
	if _, err = makeAdmin(ctx, db, r.Now, "restore", "admin-"+r.Now().UTC().Format("20060102-150405"), state.AdminToken()); err != nil {
		return nil, err
	}
	// The configuration comes last: a restore that is killed earlier leaves nothing that can be served with numbers
	// that were not moved on.
	return done, writeRestored(config, configName, small[configName])
}

// missing looks for the files that a server with this configuration reads outside its state directory.
func missing(c *settings.Config) (all []Missing) {
	named := []Missing{{"passphrase_file", c.PassphraseFilePath()}, {"profiles", c.ProfilesDir()}, {"weak_keys", c.WeakKeysPath()}}
	if token := c.KeyStores().PKCS11; token.Module != "" {
		named = append(named, Missing{"keys.pkcs11.module", token.Module}, Missing{"keys.pkcs11.pin_file", token.PINFile})
	}
	for _, m := range named {
		if _, err := os.Stat(m.Path); m.Path != "" && errors.Is(err, fs.ErrNotExist) {
			all = append(all, m)
		}
	}
	return all
}

// closed tries the passphrase of the configuration, if its file exists, on the key of one issuer: this machine may have
// the passphrase of another CA.
func closed(ctx context.Context, db store.Store, c *settings.Config) (why string, err error) {
	path := c.PassphraseFilePath()
	if _, missing := os.Stat(path); path == "" || errors.Is(missing, fs.ErrNotExist) {
		return "", nil
	}
	issuers, err := db.Issuers(ctx)
	if err != nil {
		return "", err
	}
	passphrase, _, err := settings.PassphraseSource{File: path, Getenv: func(string) string { return "" }}.Read()
	if err != nil {
		return err.Error(), nil
	}
	files, err := softkey.New(softkey.Config{Dir: c.State().Keys(), Passphrase: passphrase})
	if err != nil {
		return err.Error(), nil
	}
	for _, issuer := range issuers {
		if name, ok := strings.CutPrefix(issuer.KeyURI, files.URI("")); ok {
			if _, err := files.Open(ctx, files.URI(name)); err != nil {
				return err.Error(), nil
			}
			return "", nil
		}
	}
	return "", nil
}

// configName is the name of the configuration in a backup.
const configName = "signet.yaml"

// Advance moves on the numbers of a database that went back in another way than by Restore: a promoted standby, a
// snapshot.
func Advance(ctx context.Context, config *settings.Config, unsafe bool, now time.Time) (done store.Advanced, err error) {
	db, err := OpenDatabase(ctx, config, "signet restore", unsafe)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	issuers, err := db.Issuers(ctx)
	if err != nil {
		return done, err
	}
	if len(issuers) == 0 {
		return done, pki.Errorf(pki.KindFailedPrecondition, "restore", "%s holds no issuer: these are not the books that went back", config.DatabaseName()).
			WithHint("bring the database back, or restore a backup of it (signet restore)")
	}
	return advance(ctx, db, now, nil)
}

func advance(ctx context.Context, db store.Store, now time.Time, detail map[string]string) (store.Advanced, error) {
	principal := auth.System("restore")
	event := audit.Event{At: now, Actor: principal.ID, Action: "database.restore", Target: "database", Outcome: audit.OK, Detail: detail}
	return db.Advance(ctx, principal.ID, []audit.Event{event})
}

// open opens the archive: it reads the manifest; the other files follow.
func (r RestoreConfig) open() (file *os.File, archive *tar.Reader, manifest *Manifest, err error) {
	const op = "read backup"
	file, err = os.Open(r.Archive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, pki.Errorf(pki.KindNotFound, op, "there is no file %s", r.Archive).
			WithHint("name one that signet backup --out wrote")
	}
	if err != nil {
		return nil, nil, nil, &pki.Error{Kind: pki.KindNotFound, Op: op, Err: err}
	}
	fail := func(err error) (*os.File, *tar.Reader, *Manifest, error) {
		file.Close()
		return nil, nil, nil, pki.Errorf(pki.KindInvalid, op, "%s is no backup of Signet: %w", r.Archive, err)
	}
	zipped, err := gzip.NewReader(file)
	if err != nil {
		return fail(err)
	}
	archive = tar.NewReader(zipped)
	header, err := archive.Next()
	if err != nil {
		return fail(err)
	}
	if header.Name != manifestName {
		return fail(fmt.Errorf("it begins with %q", header.Name))
	}
	manifest = &Manifest{}
	if err := json.NewDecoder(io.LimitReader(archive, maxSmallFile)).Decode(manifest); err != nil {
		return fail(err)
	}
	if manifest.Format != backupFormat {
		return fail(fmt.Errorf("format %d, want %d", manifest.Format, backupFormat))
	}
	return file, archive, manifest, nil
}

// readSmall reads everything except the database.
func (r RestoreConfig) readSmall() (map[string][]byte, *Manifest, error) {
	const op = "read backup"
	file, archive, manifest, err := r.open()
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	files := make(map[string][]byte)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s is damaged: %w", r.Archive, err)
		}
		if strings.HasPrefix(header.Name, databaseFolder) {
			continue
		}
		if !stateFile.MatchString(header.Name) || header.Typeflag != tar.TypeReg || header.Size > maxSmallFile {
			return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s holds %.100q, which no backup does", r.Archive, header.Name)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s is damaged: %w", r.Archive, err)
		}
	}
	for _, name := range manifest.Files {
		if files[name] == nil {
			return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s is cut short: %s is missing", r.Archive, name)
		}
	}
	return files, manifest, nil
}

// config returns the configuration of the backup, with another database if requested.
func (r RestoreConfig) config(files map[string][]byte) (*settings.Config, error) {
	text := files[configName]
	if r.Database != "" {
		changed, err := settings.SetField(text, "database", r.Database)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "restore", "the configuration in the backup: %w", err)
		}
		files[configName], text = changed, changed
	}
	return settings.Parse(settings.State{Dir: r.Dir}.Config(), text, func(string) string { return "" })
}

// fits refuses a backup that this binary or the chosen database cannot take.
func (m *Manifest) fits(config *settings.Config) error {
	const op = "restore"
	kind := "postgres"
	if _, ok := config.SQLitePath(); ok {
		kind = "sqlite"
	}
	if m.Database != kind {
		names := map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"}
		return pki.Errorf(pki.KindInvalid, op, "the backup is of a %s database, and %s is asked for", names[m.Database], names[kind]).InField("database").
			WithHint("a backup restores into the kind of database that it is of: give one of those with --database")
	}
	latest, err := migrations.Latest(kind)
	if err != nil {
		return err
	}
	if m.Schema != latest {
		return pki.Errorf(pki.KindFailedPrecondition, op, "the backup has schema %d, and this binary %d", m.Schema, latest).
			WithHint("restore with the signet that made the backup, then start this one")
	}
	digest, err := migrations.Digest(kind, latest)
	if err != nil {
		return err
	}
	if m.Digest != digest {
		return pki.Errorf(pki.KindFailedPrecondition, op, "the backup is of another build of signet, whose schema %d is not the %d of this binary", m.Schema, latest).
			WithHint("restore with the signet that made the backup")
	}
	return nil
}

// database fills the database from the archive.
func (r RestoreConfig) database(ctx context.Context, config *settings.Config) error {
	file, archive, _, err := r.open()
	if err != nil {
		return err
	}
	defer file.Close()
	next := func() (string, io.Reader, error) {
		for {
			header, err := archive.Next()
			if err != nil {
				return "", nil, err
			}
			if name, ok := strings.CutPrefix(header.Name, databaseFolder); ok {
				return name, archive, nil
			}
		}
	}
	if path, ok := config.SQLitePath(); ok {
		return writeSQLite(path, next)
	}
	db, err := OpenDatabase(ctx, config, "signet restore", r.Unsafe) // creates the schema
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return postgres.Restore(ctx, postgres.Config{URL: config.Database, Unsafe: r.Unsafe}, next)
}

func writeSQLite(path string, next func() (string, io.Reader, error)) error {
	_, r, err := next()
	if err != nil {
		return pki.Errorf(pki.KindInvalid, "restore", "the backup has no database: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return pki.Errorf(pki.KindConflict, "restore", "%w", err)
	}
	if _, err := io.Copy(file, r); err != nil {
		return errors.Join(pki.Errorf(pki.KindInvalid, "restore", "write %s: %w", path, err), file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// restored returns the path of a restored file.
func restored(c *settings.Config, name string) string {
	if file, ok := strings.CutPrefix(name, "profiles/"); ok {
		return filepath.Join(c.ProfilesDir(), file)
	}
	return filepath.Join(c.Dir, filepath.FromSlash(name))
}

func writeRestored(c *settings.Config, name string, text []byte) error {
	to, mode := restored(c, name), fs.FileMode(0o600)
	if name == "root.pem" || strings.HasPrefix(name, "profiles/") {
		mode = 0o644
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return pki.Errorf(pki.KindUnavailable, "restore", "%w", err)
	}
	return durable.WriteNew(to, text, mode)
}
