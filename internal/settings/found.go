package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"signet.example/signet/pki"
)

// Found is Load for a file that nobody named, and that is there: it says where the caller's credential goes, so it counts only
// if nobody but the caller and root can have put it there. Whoever may write to a directory without the sticky bit may.
func Found(path string, getenv func(string) string) (*Config, error) {
	for _, part := range []string{filepath.Dir(path), path} {
		ok, err := ownAlone(part)
		if errors.Is(err, fs.ErrNotExist) {
			break // which Load says
		}
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "find configuration", "%w", err)
		}
		if !ok {
			return nil, pki.Errorf(pki.KindInvalid, "find configuration", "%s is here, and others may have put it there: %s belongs to another user, or everybody may write to it", path, part).
				WithHint("if it is yours, name it: --config %s", path)
		}
	}
	return Load(path, getenv)
}

// ownAlone reports whether only this user and root may change a file, or what is in a directory.
func ownAlone(path string) (bool, error) {
	link, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	const everybody = 0o002
	shared := info.Mode()&everybody != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0)
	return owned(link) && owned(info) && !shared, nil
}
