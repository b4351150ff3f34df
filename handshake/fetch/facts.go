package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Fact is a small item that must outlive the process and everything else that is kept: objects make room for others,
// facts stay until their time.
type Fact struct {
	Name  string    `json:"name"` // the subject; there is one fact per name, and the first one stays
	Until time.Time `json:"until"`
	Body  []byte    `json:"body"` // at most 4 KiB
}

const (
	defaultMaxFacts = 1 << 16
	fewFacts        = 1 << 10     // the least number of facts between two counts
	countAgain      = time.Minute // between two counts of a full directory
	maxFactBytes    = 4 << 10
	maxFactFile     = 8 << 10
	// readAgain is how many times the directory is read again after a change: file system clocks are coarse, and a
	// later change may have the same time.
	readAgain = 3
)

// facts bounds the number of facts in the directory. Each process counts for itself, so together they may exceed the
// bound by the facts added since the other processes counted.
type facts struct {
	max int

	mu    sync.Mutex
	left  int       // facts that may be added before the next count; guarded by mu
	count time.Time // when a full directory may be counted again; guarded by mu
}

// room reports whether there is room for one more fact. From time to time it removes expired facts.
func (f *facts) room(d *disk) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 && !d.now().Before(f.count) {
		kept := d.forgetPast()
		// As many again as there are, so that counting costs little per fact.
		f.left = max(0, min(max(kept, fewFacts), f.max-kept))
		f.count = d.now().Add(countAgain)
	}
	return f.left > 0
}

func (f *facts) took() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = max(0, f.left-1)
}

// Remember stores a fact on disk, if there is a disk cache. Every process that shares the directory finds it there.
// Whoever can write to the directory can add facts, so use them only to make a reader stricter, never to make it trust
// something. The error is about the disk, or says that there are already Config.MaxFacts unexpired facts.
func (f *Fetcher) Remember(fact Fact) error {
	if f.disk == nil {
		return nil
	}
	if len(fact.Body) > maxFactBytes {
		return fmt.Errorf("remember: %d octets are too many for a fact", len(fact.Body))
	}
	path := f.disk.factPath(fact.Name)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if !f.disk.facts.room(f.disk) {
		return fmt.Errorf("remember: there are %d facts, and none of them has ended", f.disk.facts.max)
	}
	text, err := json.Marshal(fact)
	if err != nil {
		return err
	}
	f.disk.facts.took()
	return writeFile(path, text)
}

func (d *disk) factPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(d.dir, "facts", hex.EncodeToString(sum[:]))
}

// Recollection reads the facts of a directory, each of them once. It is safe for concurrent use.
type Recollection struct {
	disk *disk

	mu      sync.Mutex
	read    map[string]bool // names of files; guarded by mu
	changed time.Time       // modification time of the directory at the last read; guarded by mu
	reads   int             // number of reads since the directory had that time; guarded by mu
}

// Recollect returns a Recollection from the first fact on. Without a directory there are no facts.
func (f *Fetcher) Recollect() *Recollection {
	return &Recollection{disk: f.disk, read: make(map[string]bool)}
}

// Next returns the facts added since the last call, by any process. If nothing changed, it costs one look at the
// directory. Call it at most once a second: changes faster than the clock of the file system may be missed.
func (r *Recollection) Next() ([]Fact, error) {
	if r.disk == nil {
		return nil, nil
	}
	dir := filepath.Join(r.disk.dir, "facts")
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed.Equal(info.ModTime()) {
		r.changed, r.reads = info.ModTime(), 0
	}
	if r.reads == readAgain {
		return nil, nil
	}
	r.reads++
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(entries))
	for _, entry := range entries {
		there[entry.Name()] = true
	}
	maps.DeleteFunc(r.read, func(name string, _ bool) bool { return !there[name] }) // forget expired ones
	var facts []Fact
	for _, entry := range entries {
		name := entry.Name()
		if len(name) != 2*sha256.Size || r.read[name] || len(r.read) >= r.disk.facts.max {
			continue
		}
		fact, err := r.disk.readFact(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // expired, and already removed by another process
		}
		if _, unread := errors.AsType[*fs.PathError](err); unread {
			r.reads = 0 // too many open files, perhaps: a revocation is not given up for that
			continue
		}
		r.read[name] = true
		if err == nil { // a damaged fact is ignored
			facts = append(facts, fact)
		}
	}
	return facts, nil
}

func (d *disk) readFact(path string) (Fact, error) {
	text, err := readFile(path, maxFactFile)
	if err != nil {
		return Fact{}, err
	}
	var fact Fact
	if err := json.Unmarshal(text, &fact); err != nil {
		return Fact{}, err
	}
	if d.factPath(fact.Name) != path {
		return Fact{}, errors.New("a fact under the name of another one")
	}
	return fact, nil
}

// forgetPast removes expired facts and returns the number of the others.
func (d *disk) forgetPast() (kept int) {
	dir := filepath.Join(d.dir, "facts")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0 // writing into the directory will return an error
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if fact, err := d.readFact(path); err == nil && d.now().After(fact.Until) {
			_ = os.Remove(path) // another process may have been first
		} else {
			kept++
		}
	}
	return kept
}
