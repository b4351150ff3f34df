package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"
)

// profiled takes CPU profiles of the process under test and of the callers during the last round, if they are asked for.
func (b *bench) profiled(round int, l load, length time.Duration, run func() (result, error)) (r result, err error) {
	if b.profiles == "" || l.ops == "" || round != rounds-1 {
		return run()
	}
	base := filepath.Join(b.profiles, strings.ReplaceAll(l.name, "/", "-"))
	callers, err := os.Create(base + "-callers.pprof")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, callers.Close()) }()
	if err := pprof.StartCPUProfile(callers); err != nil {
		return r, err
	}
	fetched := make(chan error, 1)
	go func() {
		fetched <- fetchProfile(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", l.ops, max(1, int(length.Seconds()))), base+"-server.pprof")
	}()
	r, err = run()
	pprof.StopCPUProfile()
	return r, errors.Join(err, <-fetched)
}

func fetchProfile(from, to string) (err error) {
	answer, err := http.Get(from)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, answer.Body)
	return err
}
