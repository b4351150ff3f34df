package agent

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/written"
	"signet.example/signet/pki"
)

// Config is what `signet agent` reads. Paths are relative to the directory of the file.
type Config struct {
	Server       string        `yaml:"server"`       // host:port of the API; required
	Root         string        `yaml:"root"`         // PEM bundle that the server's certificate must chain to; required
	TokenFile    string        `yaml:"token_file"`   // for first certificates; empty: they must be there already
	Status       string        `yaml:"status"`       // the path of a JSON file for the status of all certificates; empty: none
	Certificates []Certificate `yaml:"certificates"` // 1 to 1,000
}

// Certificate configures one certificate that is kept renewed.
type Certificate struct {
	Files    `yaml:"-"`
	CertFile string        `yaml:"certificate"`   // the certificate with its chain, PEM; required
	KeyFile  string        `yaml:"key"`           // its private key, PEM, mode 0600; required
	Names    []string      `yaml:"names"`         // its subject alternative names; required. A change makes a new certificate
	Profile  string        `yaml:"profile"`       // default: the only one that the credential names, or server
	KeyType  string        `yaml:"key_algorithm"` // default ecdsa-p256, and when renewing that of the old key
	KeyReuse bool          `yaml:"key_reuse"`     // keep the key when renewing; default false
	Lifetime time.Duration `yaml:"lifetime"`      // of the first one, such as 720h; default: the profile's
	RenewAt  float64       `yaml:"renew_at"`      // fraction of the life after which it is renewed, 0.1 to 0.9; default 2/3
	Hook     []string      `yaml:"hook"`          // program and arguments to run after a change; no shell
	HookTime time.Duration `yaml:"hook_timeout"`  // default 30s

	names     []pki.Identifier
	algorithm keys.Algorithm
}

const fieldsAreListed = "docs/OPERATIONS.md lists every field"

// LoadConfig reads and validates a file. Errors name file and field.
func LoadConfig(path string) (*Config, error) {
	const op = "read configuration of the agent"
	text, err := readFile(op, path)
	if pki.KindOf(err) == pki.KindNotFound {
		return nil, pki.Errorf(pki.KindNotFound, op, "there is no file %s", path).WithHint("name the file that says which certificates are kept; docs/OPERATIONS.md describes it")
	}
	if err != nil {
		return nil, err
	}
	c := new(Config)
	if _, mistakes := written.Read(text, c); len(mistakes) > 0 {
		var all []string
		for _, m := range mistakes {
			all = append(all, m.String())
		}
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %s", path, strings.Join(all, "; ")).WithHint(fieldsAreListed)
	}
	if field, err := c.validate(filepath.Dir(path)); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", path, err).InField(field).WithHint(fieldsAreListed)
	}
	return c, nil
}

// Lock keeps out other agents of the first certificate until it is released or the process ends: two agents that renew
// the same files would disturb each other. The lock file is beside the key, because a configuration may be replaced
// while an agent runs, and stays when the lock is released.
func (c *Config) Lock() (release func() error, err error) {
	const op = "begin to keep certificates"
	// The owner of the directory may have put a link there. It is not followed: it could make a file anywhere.
	lock := flock.New(c.Certificates[0].Files.Key+".lock", flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDONLY|durable.NoFollow))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	if !ok {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "another agent keeps %s", c.Certificates[0].Files.Certificate).
			WithHint("it renews what is due; to look once more now, stop it first")
	}
	return lock.Close, nil
}

func (c *Config) validate(dir string) (field string, err error) {
	for _, required := range []struct{ field, value string }{{"server", c.Server}, {"root", c.Root}} {
		if required.value == "" {
			return required.field, errors.New("missing")
		}
	}
	if len(c.Certificates) == 0 || len(c.Certificates) > 1000 {
		return "certificates", errors.New("want 1 to 1,000")
	}
	for _, path := range []*string{&c.Root, &c.TokenFile, &c.Status} {
		absolute(dir, path)
	}
	used := map[string]bool{}
	for i := range c.Certificates {
		k := &c.Certificates[i]
		if field, err := k.validate(dir); err != nil {
			return fmt.Sprintf("certificates[%d].%s", i, field), err
		}
		for _, path := range []string{k.Files.Certificate, k.Files.Key} {
			if used[path] {
				return fmt.Sprintf("certificates[%d]", i), fmt.Errorf("%s is used twice", path)
			}
			used[path] = true
		}
	}
	return "", nil
}

func (k *Certificate) validate(dir string) (field string, err error) {
	k.RenewAt = cmp.Or(k.RenewAt, 2.0/3)
	k.HookTime = cmp.Or(k.HookTime, 30*time.Second)
	switch {
	case k.CertFile == "":
		return "certificate", errors.New("missing")
	case k.KeyFile == "":
		return "key", errors.New("missing")
	case len(k.Names) == 0:
		return "names", errors.New("missing")
	case !(k.RenewAt >= 0.1 && k.RenewAt <= 0.9):
		return "renew_at", errors.New("want 0.1 to 0.9")
	case k.HookTime < 0 || k.HookTime > time.Hour:
		return "hook_timeout", errors.New("want up to 1h")
	case k.Lifetime < 0:
		return "lifetime", errors.New("is negative")
	}
	for _, text := range k.Names {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return "names", err
		}
		k.names = append(k.names, name)
	}
	if k.KeyType != "" {
		if k.algorithm, err = keys.ParseAlgorithm(k.KeyType); err != nil {
			return "key_algorithm", err
		}
	}
	k.Files = Files{Certificate: k.CertFile, Key: k.KeyFile}
	absolute(dir, &k.Files.Certificate)
	absolute(dir, &k.Files.Key)
	return "", nil
}

func absolute(dir string, path *string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(dir, *path)
	}
}
