package profile

import (
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"signet.example/signet/pki"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// internalNames are the built-in profiles that only Signet itself uses.
var internalNames = []string{"ocsp-responder", "root-ca", "issuing-ca"}

// Set holds the built-in profiles and those of a directory. It is safe for concurrent use. A Profile stays valid after
// the set has been reloaded.
type Set struct {
	dir     string
	current atomic.Pointer[map[string]*Profile]
}

// Open reads every *.yaml file of a directory. An empty name means the built-in profiles only. A file may replace the
// built-in profile of the same name, except those that only Signet itself uses.
func Open(dir string) (*Set, error) {
	s := &Set{dir: dir}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the directory again. If every file is valid, the whole new set takes effect at once. Otherwise nothing
// changes, and the error lists what is wrong in every file.
func (s *Set) Reload() error {
	reading, err := s.Read()
	if err != nil {
		return err
	}
	s.Use(reading)
	return nil
}

// Reading is a set of profiles as read from the directory. Use puts it into effect.
type Reading struct{ profiles map[string]*Profile }

// Read reads the directory again and changes nothing. The error lists what is wrong in every file.
func (s *Set) Read() (Reading, error) {
	profiles, err := readBuiltin()
	if err != nil {
		return Reading{}, err
	}
	if err := readDir(s.dir, profiles); err != nil {
		return Reading{}, err
	}
	return Reading{profiles}, nil
}

// Use puts a reading of this set into effect, atomically.
func (s *Set) Use(r Reading) { s.current.Store(&r.profiles) }

// Len returns the number of profiles.
func (r Reading) Len() int { return len(r.profiles) }

// Get returns the profile with a name, or KindNotFound.
func (s *Set) Get(name string) (*Profile, error) {
	if p, ok := (*s.current.Load())[name]; ok {
		return p, nil
	}
	var known []string
	for _, p := range s.All() {
		if !p.Internal {
			known = append(known, p.Name)
		}
	}
	return nil, pki.Errorf(pki.KindNotFound, "find profile", "there is no profile %.64q", name).InField("profile").
		WithHint("profiles here: %s", strings.Join(known, ", "))
}

// Digest returns the SHA-256 over the names and texts of all profiles. Sets with the same profiles have the same
// digest.
func (s *Set) Digest() [sha256.Size]byte { return Reading{*s.current.Load()}.Digest() }

// Digest returns the Digest that the set will have once the reading is in effect.
func (r Reading) Digest() [sha256.Size]byte {
	digest := sha256.New()
	for _, p := range r.all() {
		for _, part := range [][]byte{[]byte(p.Name), p.Source()} {
			binary.Write(digest, binary.BigEndian, uint64(len(part))) // a hash takes everything
			digest.Write(part)
		}
	}
	return [sha256.Size]byte(digest.Sum(nil))
}

// All returns every profile, sorted by name.
func (s *Set) All() []*Profile { return Reading{*s.current.Load()}.all() }

func (r Reading) all() []*Profile {
	var all []*Profile
	for _, p := range r.profiles {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Profile) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func readBuiltin() (map[string]*Profile, error) {
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "read built-in profiles", "%w", err)
	}
	profiles := make(map[string]*Profile)
	for _, entry := range entries {
		text, err := builtin.ReadFile(path.Join("builtin", entry.Name()))
		if err != nil {
			return nil, pki.Errorf(pki.KindInternal, "read built-in profiles", "%w", err)
		}
		name := strings.TrimSuffix(entry.Name(), ".yaml")
		p, err := parse("built-in "+entry.Name(), text, slices.Contains(internalNames, name))
		if err != nil {
			return nil, err
		}
		profiles[p.Name] = p
	}
	return profiles, nil
}

func readDir(dir string, profiles map[string]*Profile) error {
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return pki.Errorf(pki.KindInvalid, "read profiles", "%s: %w", dir, err).InField("profiles")
	}
	if _, err := os.Stat(dir); err != nil {
		return &pki.Error{Kind: pki.KindFailedPrecondition, Op: "read profiles", Field: "profiles", Err: err}
	}
	var problems []error
	from := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		p, fileProblems := parseFile(file, text, false)
		if len(fileProblems) > 0 {
			problems = append(problems, fileProblems...)
			continue
		}
		if slices.Contains(internalNames, p.Name) {
			problems = append(problems, &FileError{File: file, Field: "name", Text: fmt.Sprintf("%s is Signet's own and cannot be replaced", p.Name)})
		}
		if other, twice := from[p.Name]; twice {
			problems = append(problems, &FileError{File: file, Field: "name", Text: fmt.Sprintf("%s is defined in %s too", p.Name, other)})
		}
		from[p.Name], profiles[p.Name] = file, p
	}
	if len(problems) > 0 {
		return &pki.Error{
			Kind: pki.KindInvalid, Op: "read profiles", Field: "profiles", Err: errors.Join(problems...),
			Hint: "the profiles read before stay in force",
		}
	}
	return nil
}
