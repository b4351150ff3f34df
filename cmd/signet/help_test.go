package main

import (
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestHelpExamples holds every example of every help page against the command line it is about: no command is without
// one, and each names commands and flags that exist.
func TestHelpExamples(t *testing.T) {
	newParser := func() *kong.Kong {
		return kong.Must(new(commands), kong.Name("signet"), kong.Writers(io.Discard, io.Discard))
	}
	for _, leaf := range newParser().Model.Leaves(true) {
		examples := exampleLines(leaf.Detail)
		if len(examples) == 0 {
			t.Errorf("signet %s --help has no example", leaf.Path())
		}
		for _, example := range examples {
			if _, err := newParser().Parse(shellWords(example)[1:]); err != nil {
				t.Errorf("signet %s --help: %s: %v", leaf.Path(), example, err)
			}
		}
	}
}

// exampleLines are the lines after "Examples:" that begin with our name, long ones put together.
func exampleLines(help string) []string {
	var examples []string
	_, help, _ = strings.Cut(help, "Example")
	for line := range strings.Lines(strings.ReplaceAll(help, "\\\n", " ")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "signet ") {
			examples = append(examples, line)
		}
	}
	return examples
}

// shellWords splits as a shell does, as far as help pages need it: double quotes, and an end at whatever is not an
// argument.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		for _, word := range strings.Fields(part) {
			if strings.ContainsAny(word[:1], "|<>;#&") {
				return words
			}
			words = append(words, word)
		}
	}
	return words
}
