package profile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"signet.example/signet/internal/written"
	"signet.example/signet/pki"
)

// maxFile bounds a profile file, in octets.
const maxFile = 256 << 10

// FileError is one mistake in a profile file.
type FileError struct {
	File  string
	Line  int    // from 1; 0: the file as a whole
	Field string // such as "names.dns.allow[2]"; empty: no field
	Text  string
}

// Error returns "file:line: field: text".
func (e *FileError) Error() string {
	where := e.File
	if e.Line > 0 {
		where += ":" + strconv.Itoa(e.Line)
	}
	if e.Field != "" {
		where += ": " + e.Field
	}
	return where + ": " + e.Text
}

// Parse reads one profile file. The error is of KindInvalid and wraps a FileError for each mistake.
func Parse(file string, text []byte) (*Profile, error) { return parse(file, text, false) }

func parse(file string, text []byte, internal bool) (*Profile, error) {
	p, problems := parseFile(file, text, internal)
	if len(problems) > 0 {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: "read profile", Field: "profile", Err: errors.Join(problems...)}
	}
	return p, nil
}

func parseFile(file string, text []byte, internal bool) (*Profile, []error) {
	if len(text) > maxFile {
		return nil, []error{&FileError{File: file, Text: fmt.Sprintf("is longer than %d octets", maxFile)}}
	}
	var config Config
	doc, mistakes := written.Read(text, &config)
	if len(mistakes) > 0 {
		return nil, fileErrors(file, mistakes)
	}
	if doc.Empty() {
		return nil, []error{&FileError{File: file, Text: "is empty"}}
	}
	p, problems := compile(config, internal)
	if len(problems) == 0 {
		p.File, p.source = file, text
		return p, nil
	}
	for _, problem := range problems {
		line, field := doc.Locate(problem.path...)
		mistakes = append(mistakes, written.Mistake{Line: line, Field: field, Text: problem.text})
	}
	return nil, fileErrors(file, mistakes)
}

// fileErrors returns the mistakes as FileErrors, sorted by line.
func fileErrors(file string, mistakes []written.Mistake) (all []error) {
	slices.SortStableFunc(mistakes, func(a, b written.Mistake) int { return a.Line - b.Line })
	for _, m := range mistakes {
		all = append(all, &FileError{File: file, Line: m.Line, Field: m.Field, Text: m.Text})
	}
	return all
}
