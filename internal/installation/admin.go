package installation

import (
	"context"
	"errors"
	"os"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

// adminLifetime is the lifetime of the first credential: long enough to create others, but not for ever.
const adminLifetime = 365 * 24 * time.Hour

// CreateAdmin creates an administrator in the database itself and writes the token to a new file. It is for operators
// of this machine who have no valid credential left. It returns the time at which the token expires. The database must
// exist and is not migrated: otherwise another configuration's would be created, or one taken from running servers.
func CreateAdmin(ctx context.Context, config *settings.Config, name, path string, unsafe bool) (ends time.Time, err error) {
	const op = "create administrator"
	status, err := DatabaseStatus(ctx, config)
	if err == nil && status.Version == 0 {
		err = pki.Errorf(pki.KindNotFound, op, "the database (%s) is empty", config.DatabaseName())
	}
	switch {
	case pki.KindOf(err) == pki.KindNotFound:
		return time.Time{}, pki.Errorf(pki.KindNotFound, op, "%w", err).
			WithHint("name the server's database: --config, and SIGNET_DATABASE where the server has it")
	case err != nil:
		return time.Time{}, err
	case status.Version < status.Latest:
		return time.Time{}, pki.Errorf(pki.KindFailedPrecondition, op,
			"the schema of the database (%s) is at version %d, this signet's at %d", config.DatabaseName(), status.Version, status.Latest).
			WithHint("use the signet that the servers run, or finish the upgrade first: signet migrate")
	}
	db, err := OpenDatabase(ctx, config, "signet credential create", unsafe)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return makeAdmin(ctx, db, time.Now, "recovery", name, path)
}

// makeAdmin creates an administrator's credential, acting as a part of the system, and writes its token. It creates the
// file first: a token that cannot be written would be lost.
func makeAdmin(ctx context.Context, db store.Store, now func() time.Time, part, name, path string) (ends time.Time, err error) {
	if err := durable.WriteNew(path, nil, 0o600); err != nil {
		return time.Time{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	credentials, err := auth.NewCredentials(auth.CredentialsConfig{Store: db, Now: now})
	if err != nil {
		return time.Time{}, err
	}
	grant, err := auth.System(part).Authorize(auth.ActionManage, "")
	if err != nil {
		return time.Time{}, err
	}
	credential, token, err := credentials.CreateToken(ctx, grant, auth.Spec{Name: name, Role: auth.RoleAdmin, Lifetime: adminLifetime})
	if err != nil {
		return time.Time{}, err
	}
	return credential.ExpiresAt, durable.Replace(path, []byte(token+"\n"), 0o600)
}
