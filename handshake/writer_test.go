package handshake

import (
	"testing"
	"time"

	"signet.example/signet/handshake/fetch"
)

// TestWriter: revocations are written first, of an object the newest version only, and whoever waits does not wait for
// what came later.
func TestWriter(t *testing.T) {
	var w writer
	held, release, got := make(chan struct{}), make(chan struct{}), ""
	w.remember("held", func() { close(held); <-release })
	<-held
	keep := func(key string, version byte, size int) {
		w.keep(&fetch.Object{Key: key, Version: fetch.Version{version}, Body: make([]byte, size)}, func() { got += key + string('0'+version) + " " })
	}
	keep("a", 2, 10)
	keep("b", 1, maxUnwrittenOctets-30)
	keep("a", 1, 10)
	keep("a", 3, 20)
	keep("large", 1, 20)
	for range 2 {
		w.remember("r", func() { got += "r " })
	}
	waited := make(chan struct{})
	go func() { w.wait(); close(waited) }()
	for { // until it waits
		w.mu.Lock()
		waiting := len(w.others)
		w.mu.Unlock()
		if waiting == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	never := make(chan struct{})
	w.keep(&fetch.Object{Key: "later"}, func() { <-never })
	close(release)
	<-waited
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := "r a3 b1 "; got != want || w.octets != 0 {
		t.Errorf("wrote %q and has %d octets left, want %q and none", got, w.octets, want)
	}
	close(never)
}
