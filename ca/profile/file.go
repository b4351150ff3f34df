package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"signet.example/signet/pki"
)

// maxFile bounds a profile file, in octets.
const maxFile = 256 << 10

// FileError is one thing wrong with a profile file.
type FileError struct {
	File  string
	Line  int    // from 1; 0 if the file as a whole is meant
	Field string // "names.dns.allow[2]"; empty if no field is meant
	Text  string
}

// Error is "file:line: field: text".
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

// Parse reads one profile file. The error holds every FileError found.
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
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, yamlErrors(file, err)
	}
	var config Config
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, []error{&FileError{File: file, Text: "is empty"}}
		}
		return nil, yamlErrors(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, []error{&FileError{File: file, Text: "holds more than one document: one file is one profile"}}
	}
	p, problems := compile(config, internal)
	if len(problems) == 0 {
		p.File, p.source = file, text
		return p, nil
	}
	var all []error
	for _, problem := range problems {
		line, field := locate(&root, problem.path)
		all = append(all, &FileError{File: file, Line: line, Field: field, Text: problem.text})
	}
	return nil, all
}

// locate follows a path through the document and returns the line of the deepest node that exists, and the path as
// people write it.
func locate(root *yaml.Node, path []any) (line int, field string) {
	node := root
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	line = node.Line
	for _, step := range path {
		switch step := step.(type) {
		case string:
			if field != "" {
				field += "."
			}
			field += step
			node, line = child(node, step, line)
		case int:
			field += "[" + strconv.Itoa(step) + "]"
			if node != nil && node.Kind == yaml.SequenceNode && step < len(node.Content) {
				node = node.Content[step]
				line = node.Line
			}
		}
	}
	return line, field
}

func child(node *yaml.Node, key string, line int) (*yaml.Node, int) {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, line
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1], node.Content[i].Line
		}
	}
	return nil, line
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	yamlUnknown = regexp.MustCompile(`^field (.*) not found in type .*$`)
	yamlType    = regexp.MustCompile(`^cannot unmarshal !!(\w+)(.*) into (.*)$`)
)

// yamlErrors turns the decoder's texts, which name Go types, into FileErrors.
func yamlErrors(file string, err error) []error {
	texts := []string{err.Error()}
	if typeErr, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = typeErr.Errors
	}
	var all []error
	for _, text := range texts {
		e := &FileError{File: file, Text: strings.TrimPrefix(text, "yaml: ")}
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			e.Line, _ = strconv.Atoi(m[1]) // digits, by the expression
			e.Text = m[2]
		}
		if m := yamlUnknown.FindStringSubmatch(e.Text); m != nil {
			e.Field, e.Text = m[1], "there is no such field here"
		}
		if m := yamlType.FindStringSubmatch(e.Text); m != nil {
			e.Text = fmt.Sprintf("%s%s is not what belongs here", m[1], m[2])
		}
		all = append(all, e)
	}
	return all
}
