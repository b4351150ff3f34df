package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar on stderr, and nothing at all unless stderr is a terminal and the result is for people.
type progress struct{ bar *progressbar.ProgressBar }

// progress starts a bar. total is asked only if there will be one; -1 means that nobody knows.
func (a *app) progress(what string, total func() int) *progress {
	terminal := terminalOf(a.err)
	if a.json || terminal == nil {
		return &progress{}
	}
	return &progress{progressbar.NewOptions(total(), progressbar.OptionSetWriter(io.Writer(terminal)), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(terminal) }))}
}

func (p *progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n) // a bar that cannot be drawn stops nothing
	}
}

func (p *progress) done() {
	if p.bar != nil && !p.bar.IsFinished() {
		_ = p.bar.Exit() // as above
	}
}
