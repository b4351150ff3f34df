package fetch

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The layout of the directory:
//
//	objects/<SHA-256 of the content, hex>             the content, immutable
//	refs/<SHA-256 of the key, hex>/<version, hex>     JSON: key, digest, validators, time of the last fetch
//	facts/<SHA-256 of the name, hex>                  JSON: name, body, until when it is kept
//
// The current version of a key is the name that sorts last, so processes that write at the same time need no lock: a
// smaller version may arrive later and is ignored. Files appear by rename, complete or not at all. Fields may be added
// to the JSON; unknown ones are ignored.

// VersionSize is the size of a Version, in octets.
const VersionSize = 28

// Version orders the objects of one key. The Version of a CRL has its number (20 octets, big-endian) and thisUpdate (8
// octets, Unix seconds, big-endian), and the first bit set unless the CRL says that it is published elsewhere. The
// Version of an OCSP response has zeros and two times, producedAt and thisUpdate, in one order or the other.
type Version [VersionSize]byte

// Object is something that was fetched, with the validators for a conditional request.
type Object struct {
	Key          string // URL, followed by something that names the certificate if a URL answers for many
	Version      Version
	Body         []byte
	ETag         string
	LastModified string
	Fetched      time.Time // when the source last gave or confirmed it
}

type ref struct {
	Key          string    `json:"key"`
	SHA256       string    `json:"sha256"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Fetched      time.Time `json:"fetched"`
}

const (
	maxRefBytes    = 16 << 10
	maxObjectBytes = 256 << 20
	sweepEvery     = 256 // the least number of objects kept between two sweeps
	// Octets that a file system uses for a directory or a small file, and wastes with a large one.
	block = 4 << 10
	// youngObject is the age up to which an object without a ref may be about to get one, an empty directory an object,
	// and a temporary file its name.
	youngObject = time.Hour
	temporary   = ".tmp-" // prefix of the names of incomplete files
)

type disk struct {
	dir      string
	maxBytes int64
	now      func() time.Time

	mu       sync.Mutex
	left     int  // objects that may be kept before the next sweep; guarded by mu
	sweeping bool // guarded by mu

	facts facts
}

func openDisk(dir string, maxBytes int64, maxFacts int, now func() time.Time) (*disk, error) {
	d := &disk{dir: dir, maxBytes: maxBytes, now: now, facts: facts{max: maxFacts}}
	for _, sub := range []string{"objects", "refs", "facts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	d.facts.room(d)
	return d, d.sweep()
}

// Load returns the object kept under a key with the largest version. The error is fs.ErrNotExist if there is no intact
// one. The content comes from a server on the network: verify it.
func (f *Fetcher) Load(key string) (Object, error) {
	if f.disk == nil {
		return Object{}, fs.ErrNotExist
	}
	return f.disk.load(key)
}

// Keep stores an object. If its version is smaller than the one kept, Keep has no effect and returns nil: the larger
// version stays current.
func (f *Fetcher) Keep(object Object) error {
	if f.disk == nil {
		return nil
	}
	return f.disk.keep(object)
}

func (d *disk) refDir(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(d.dir, "refs", hex.EncodeToString(sum[:]))
}

func (d *disk) objectPath(digest string) string { return filepath.Join(d.dir, "objects", digest) }

// versions returns the versions of a key, the largest first.
func versions(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if len(entry.Name()) == 2*VersionSize {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names
}

func (d *disk) load(key string) (Object, error) {
	dir := d.refDir(key)
	for _, name := range versions(dir) {
		object, err := d.loadVersion(key, filepath.Join(dir, name), name)
		if err == nil {
			return object, nil
		}
	}
	return Object{}, fs.ErrNotExist
}

func (d *disk) loadVersion(key, path, name string) (Object, error) {
	r, err := readRef(path)
	if err != nil {
		return Object{}, err
	}
	if r.Key != key {
		return Object{}, errors.New("reference of another key")
	}
	body, err := readFile(d.objectPath(r.SHA256), maxObjectBytes)
	if err != nil {
		return Object{}, err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != r.SHA256 {
		return Object{}, errors.New("object does not have the digest it is named by")
	}
	object := Object{Key: key, Body: body, ETag: r.ETag, LastModified: r.LastModified, Fetched: r.Fetched}
	if _, err := hex.Decode(object.Version[:], []byte(name)); err != nil {
		return Object{}, err
	}
	return object, nil
}

func (d *disk) keep(object Object) error {
	sum := sha256.Sum256(object.Body)
	digest := hex.EncodeToString(sum[:])
	// The object is written even if it exists: it may be damaged, and a new file is not removed by a sweep before it
	// has a reference.
	if err := writeFile(d.objectPath(digest), object.Body); err != nil {
		return err
	}
	dir := d.refDir(object.Key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(ref{object.Key, digest, object.ETag, object.LastModified, object.Fetched.UTC()})
	if err != nil {
		return err
	}
	// A crash before this rename leaves an object without a reference, which a later sweep removes.
	if err := writeFile(filepath.Join(dir, hex.EncodeToString(object.Version[:])), text); err != nil {
		return err
	}
	d.dropOlder(dir)
	d.sweepSometimes()
	return nil
}

// dropOlder removes all but the largest version of a key. Another process may do the same: a missing file is not an
// error.
func (d *disk) dropOlder(dir string) {
	names := versions(dir)
	for i, name := range names {
		if i > 0 {
			// A file left over only takes space, and is tried again with the next version.
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// sweepSometimes sweeps in the background, one sweep at a time: with many objects it takes seconds, and the caller has
// a peer that waits.
func (d *disk) sweepSometimes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.left > 0 || d.sweeping {
		return
	}
	d.sweeping = true
	go func() {
		_ = d.sweep() // the next one tries again
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sweeping = false
	}()
}

type sweptRef struct {
	path    string
	digest  string
	fetched time.Time
}

// sweep drops references until the objects they name fit the bound, those fetched longest ago first. Then it removes
// objects without references, and what keys and crashed writers left behind. Each file counts with the space that a
// file system uses for it: responses about a million certificates are small, and would otherwise take twenty times the
// bound.
func (d *disk) sweep() error {
	refs := d.allRefs()
	d.mu.Lock()
	d.left = max(sweepEvery, len(refs)/8) // so that sweeping costs little per object, however many there are
	d.mu.Unlock()
	objects, err := d.objects()
	if err != nil {
		return err
	}
	now := d.now()
	slices.SortFunc(refs, func(a, b sweptRef) int { return b.fetched.Compare(a.fetched) })
	used, dropped := make(map[string]bool), make(map[string]bool)
	var total int64
	for _, r := range refs {
		cost := int64(2 * block) // the reference, and the directory of its key
		if object, there := objects[r.digest]; there && !used[r.digest] {
			cost += object.Size() + block
		}
		if total+cost > d.maxBytes {
			if again, err := readRef(r.path); err == nil && again.Fetched.Equal(r.fetched) { // not stored again since
				_ = os.Remove(r.path) // another process may have been first
				dropped[r.digest] = true
			}
			continue
		}
		used[r.digest] = true
		total += cost
	}
	for name, object := range objects {
		if !used[name] && (dropped[name] || now.Sub(object.ModTime()) > youngObject) {
			removeUnchanged(d.objectPath(name), object)
		}
	}
	d.sweepRemains()
	return nil
}

// sweepRemains removes temporary files that will not be completed (among objects, sweep removes them), and the
// directories of keys without objects.
func (d *disk) sweepRemains() {
	refs := filepath.Join(d.dir, "refs")
	keys, err := os.ReadDir(refs)
	if err != nil {
		return // the next sweep tries again
	}
	for _, key := range keys {
		dir := filepath.Join(refs, key.Name())
		if info, err := key.Info(); err == nil && d.old(info) {
			d.removeTemporary(dir)
			// Fails if something is kept there; a process about to write there keeps its object the next time.
			_ = os.Remove(dir)
		}
	}
	d.removeTemporary(filepath.Join(d.dir, "facts"))
}

func (d *disk) removeTemporary(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the next sweep tries again
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && strings.HasPrefix(entry.Name(), temporary) && d.old(info) {
			_ = os.Remove(filepath.Join(dir, entry.Name())) // another process may have been first
		}
	}
}

func (d *disk) old(info fs.FileInfo) bool { return d.now().Sub(info.ModTime()) > youngObject }

func (d *disk) allRefs() []sweptRef {
	var refs []sweptRef
	keys, err := os.ReadDir(filepath.Join(d.dir, "refs"))
	if err != nil {
		return nil
	}
	for _, key := range keys {
		dir := filepath.Join(d.dir, "refs", key.Name())
		for _, name := range versions(dir) {
			path := filepath.Join(dir, name)
			if r, err := readRef(path); err == nil {
				refs = append(refs, sweptRef{path, r.SHA256, r.Fetched})
			}
		}
	}
	return refs
}

// objects describes the files of the objects, by their names.
func (d *disk) objects() (map[string]fs.FileInfo, error) {
	entries, err := os.ReadDir(filepath.Join(d.dir, "objects"))
	if err != nil {
		return nil, err
	}
	objects := make(map[string]fs.FileInfo, len(entries))
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			objects[entry.Name()] = info
		}
	}
	return objects, nil
}

// removeUnchanged removes a file unless another process has replaced it since seen was read: an object that
// was stored again is in use.
func removeUnchanged(path string, seen fs.FileInfo) {
	info, err := os.Lstat(path)
	if err == nil && os.SameFile(info, seen) && info.ModTime().Equal(seen.ModTime()) {
		_ = os.Remove(path) // another process may have been first
	}
}

func readRef(path string) (ref, error) {
	text, err := readFile(path, maxRefBytes)
	if err != nil {
		return ref{}, err
	}
	var r ref
	if err := json.Unmarshal(text, &r); err != nil {
		return ref{}, err
	}
	if digest, err := hex.DecodeString(r.SHA256); err != nil || len(digest) != sha256.Size || strings.ToLower(r.SHA256) != r.SHA256 {
		// It becomes a file name: only hexadecimal digits may pass.
		return ref{}, errors.New("reference without a digest")
	}
	return r, nil
}

func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var buffer bytes.Buffer
	n, err := buffer.ReadFrom(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%s has more than %d octets", filepath.Base(path), limit)
	}
	return buffer.Bytes(), nil
}

// writeFile makes a file appear complete or not at all: temporary name, sync, rename, sync of the directory.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = cmp.Or(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}
