package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
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
		if found := misfits(root.Content[0], reflect.TypeFor[Config](), nil); len(found) > 0 {
			return nil, fileErrors(file, &root, found)
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
	return nil, fileErrors(file, &root, problems)
}

// fileErrors says where in a document its problems are, from the top down.
func fileErrors(file string, root *yaml.Node, problems []problem) []error {
	var found []*FileError
	for _, problem := range problems {
		line, field := locate(root, problem.path)
		found = append(found, &FileError{File: file, Line: line, Field: field, Text: problem.text})
	}
	slices.SortStableFunc(found, func(a, b *FileError) int { return a.Line - b.Line })
	var all []error
	for _, e := range found {
		all = append(all, e)
	}
	return all
}

// misfits finds what the decoder would not take, by field: its own errors name lines and Go types.
func misfits(node *yaml.Node, want reflect.Type, path []any) (found []problem) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	at := func(step any) []any { return append(path[:len(path):len(path)], step) }
	switch {
	case node.Kind == yaml.SequenceNode && want.Kind() == reflect.Slice:
		for i, item := range node.Content {
			found = append(found, misfits(item, want.Elem(), at(i))...)
		}
	case node.Kind == yaml.MappingNode && (want.Kind() == reflect.Struct || want.Kind() == reflect.Map):
		seen := make(map[string]bool)
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i].Value
			inside, known := fieldType(want, name)
			switch {
			case name == "<<": // a merge, which the decoder takes
			case !known:
				found = append(found, problem{at(name), "there is no such field here"})
			case seen[name]:
				found = append(found, problem{at(name), "stands here twice"})
			default:
				found = append(found, misfits(node.Content[i+1], inside, at(name))...)
			}
			seen[name] = true
		}
	case node.Decode(reflect.New(want).Interface()) != nil:
		what := map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping", yaml.ScalarNode: fmt.Sprintf("%.64q", node.Value)}
		found = append(found, problem{path, what[node.Kind] + " is not what belongs here"})
	}
	return found
}

// fieldType is the type of what a name stands for in a struct of Config, or in a map.
func fieldType(of reflect.Type, name string) (inside reflect.Type, known bool) {
	if of.Kind() == reflect.Map {
		return of.Elem(), true
	}
	for i := range of.NumField() {
		if f := of.Field(i); f.Tag.Get("yaml") == name {
			return f.Type, true
		}
	}
	return nil, false
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
	for i := len(node.Content) - 2; i >= 0; i -= 2 { // of two, the second is one too many
		if node.Content[i].Value == key {
			return node.Content[i+1], node.Content[i].Line
		}
	}
	return nil, line
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yamlErrors turns what the decoder says of text that is no YAML into FileErrors.
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
		all = append(all, e)
	}
	return all
}
