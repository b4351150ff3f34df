package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar on stderr. It shows nothing unless stderr is a terminal and the output is for people.
type progress struct{ bar *progressbar.ProgressBar }

// progress starts a bar. total is called only if there is one; -1 means unknown.
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
		_ = p.bar.Add(n) // an error of the bar does not matter
	}
}

func (p *progress) done() {
	if p.bar != nil && !p.bar.IsFinished() {
		_ = p.bar.Exit() // as above
	}
}
