package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/internal/durable"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.pem")
	if err := os.Symlink("key.pem", link); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	only(t, dir, 2)
}

func TestAbandonedFileLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.csv")
	if err := durable.Replace(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Create(path, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	f.Abandon()
	if text, err := os.ReadFile(path); err != nil || string(text) != "old" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	only(t, dir, 1)
	if err := durable.Replace(filepath.Join(dir, "nowhere", "x"), nil, 0o600); err == nil {
		t.Error("a file in a directory that does not exist")
	}
	for range 2 {
		if err := durable.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// What others were given stays theirs, and what a killed process left goes.
func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.key")
	update := func(text string, mode fs.FileMode) {
		t.Helper()
		f, err := durable.Update(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.Prepare(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	update("first", 0o600)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("a new file has mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 4711
	} else if groups, err := os.Getgroups(); err == nil && len(groups) > 0 {
		group = groups[0]
	}
	if err := os.Chown(path, -1, group); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, ".new-123-a.key")
	for _, name := range []string{old, filepath.Join(dir, ".new-124-a.key"), filepath.Join(dir, ".new-125-b-a.key"), filepath.Join(dir, "new-126-a.key")} {
		if err := os.WriteFile(name, []byte("left by a kill"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != filepath.Join(dir, ".new-124-a.key") { // a process is writing this one
			if err := os.Chtimes(name, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	update("second", 0o600)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || int(owner.Gid) != group {
		t.Errorf("the file has mode %v and group %d, want 0640 and %d", info.Mode(), owner.Gid, group)
	}
	if _, err := os.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a kill left is there: %v", err)
	}
	only(t, dir, 4)
}

// A device, or a pipe, is not replaced by a file.
func TestOnlyFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(pipe, []byte("x"), 0o600); err == nil {
		t.Error("a pipe was replaced")
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe is gone: %v, %v", info, err)
	}
	only(t, dir, 1)
}

// Write access to a directory, and a link made there, do not decide which files others replace.
func TestLinksOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"app/web.key": "../crontab", "etc": "app/..", "loop": "loop", "app/new.key": filepath.Join(dir, "none")} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	all := func(fs.FileInfo) bool { return true }
	for path, want := range map[string]string{"app/web.key": "crontab", "app/other.key": "app/other.key", "etc/app/web.key": "crontab", "app/new.key": "none", "nowhere/x": "nowhere/x"} {
		got, err := durable.Followed(filepath.Join(dir, path), all)
		if resolved, _ := filepath.EvalSymlinks(dir); err != nil || got != filepath.Join(resolved, want) {
			t.Errorf("%s is %s, %v; want %s", path, got, err, want)
		}
	}
	if got, err := durable.Followed(filepath.Join(dir, "loop"), all); err == nil {
		t.Errorf("a link to itself is %s", got)
	}
	for path, refused := range map[string]string{"app/web.key": "web.key", "etc/crontab": "etc", "etc/app/web.key": "etc"} {
		var asked []string
		_, err := durable.Followed(filepath.Join(dir, path), func(link fs.FileInfo) bool {
			asked = append(asked, link.Name())
			return link.Name() != refused
		})
		if err == nil || asked[len(asked)-1] != refused {
			t.Errorf("%s leads through a link that may not be followed: %v (%q)", path, err, asked)
		}
	}

	link, target := filepath.Join(dir, "app", "web.key"), filepath.Join(dir, "crontab")
	if err := os.WriteFile(target, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || !durable.Trusted(info) {
		t.Errorf("a link of this user, %v, is one of another", err)
	}
	if os.Getuid() != 0 {
		return // only root gives files away
	}
	if err := os.Lchown(link, 4711, -1); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(link, []byte("new"), 0o600); err == nil {
		t.Error("a link of another user was followed")
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "old" {
		t.Errorf("what it points to holds %q, %v", text, err)
	}
}

// A file is a user's own if no other user can have written it.
func TestOpenOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := durable.OpenOwn(path)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if os.Getuid() != 0 {
		return // only root gives files away
	}
	if err := os.Chown(path, 4711, -1); err != nil {
		t.Fatal(err)
	}
	if file, err := durable.OpenOwn(path); err == nil {
		t.Errorf("%s of another user is taken for one's own", file.Name())
	}
}

// only fails if anything but n entries is left in a directory.
func only(t *testing.T, dir string, n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != n {
		t.Errorf("%d files are left: %v", len(entries), entries)
	}
}
