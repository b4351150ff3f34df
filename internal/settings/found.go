package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"signet.example/signet/pki"
)

// Found is Load for a file that nobody named, and that is there: it says where the caller's credential goes, so it counts only
// if it and its directory belong to the caller or to root, and not everybody may write to them: to a directory with the sticky bit
// they may. A group that may write is trusted, as whoever made it trusts it.
func Found(path string, getenv func(string) string) (*Config, error) {
	for _, part := range []string{filepath.Dir(path), path} {
		ok, err := own(part)
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

// own reports whether a file or directory is this user's or root's, and not everybody may change it or what is in it.
func own(path string) (bool, error) {
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
