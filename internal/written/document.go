// Package written reads what people write by hand, YAML documents and durations, and says what is wrong with it in their
// terms: line and field, and what belongs there, never types of this program.
package written

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Mistake is one thing wrong with a document.
type Mistake struct {
	Line  int    // from 1; 0 if the document as a whole is meant
	Field string // "names.dns.allow[2]"; empty if no field is meant
	Text  string
}

// String is "line N: field: text".
func (m Mistake) String() string {
	text := m.Text
	if m.Field != "" {
		text = m.Field + ": " + text
	}
	if m.Line > 0 {
		text = "line " + strconv.Itoa(m.Line) + ": " + text
	}
	return text
}

// A Document is a YAML text that was read; the zero value is an empty one.
type Document struct{ top *yaml.Node }

// Empty reports whether nothing stands in it but comments.
func (d Document) Empty() bool { return d.top == nil }

// Read decodes a text that holds at most one document into the struct that into points to. Fields that the struct does not have,
// fields that stand twice and values of another kind are mistakes: all are returned, from the top down, and nothing is decoded.
// A time.Duration is written as ParseDuration reads it.
func Read(text []byte, into any) (Document, []Mistake) {
	var root, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return Document{}, nil
	case err != nil:
		return Document{}, broken(err)
	}
	for { // a last line of dashes begins a document in which nothing stands
		err := decoder.Decode(&second)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Document{}, broken(err)
		}
		if only := second.Content[0]; only.Tag != "!!null" || only.Value != "" {
			return Document{}, []Mistake{{Line: second.Line, Text: "it holds more than one document, and one is wanted"}}
		}
	}
	d := Document{root.Content[0]}
	if tooMany := beyond(d.top, new(int), false); tooMany != nil {
		return d, []Mistake{{Line: tooMany.Line, Text: fmt.Sprintf("its aliases stand for more than %d values: one may contain itself", mostAliased)}}
	}
	var mistakes []Mistake
	for _, found := range misfits(d.top, reflect.TypeOf(into), nil) {
		line, field := d.Locate(found.path...)
		mistakes = append(mistakes, Mistake{line, field, found.text})
	}
	if len(mistakes) > 0 {
		slices.SortStableFunc(mistakes, func(a, b Mistake) int { return a.Line - b.Line })
		return d, mistakes
	}
	if err := d.top.Decode(into); err != nil {
		return d, broken(err)
	}
	return d, nil
}

// mostAliased bounds how many values the aliases of a document stand for.
const mostAliased = 100_000

// beyond follows every alias, as misfits does, and returns the alias with which they stand for more than mostAliased values, nil if
// they do not: a few lines can stand for any number, and one that contains itself for infinitely many.
func beyond(node *yaml.Node, count *int, aliased bool) *yaml.Node {
	if aliased {
		*count++
	}
	if *count > mostAliased {
		return node
	}
	if node.Kind == yaml.AliasNode {
		if beyond(node.Alias, count, true) != nil {
			return node
		}
		return nil
	}
	for _, inside := range node.Content {
		if found := beyond(inside, count, aliased); found != nil {
			return found
		}
	}
	return nil
}

// misfit is something that the decoder would not take; path leads to it, through the names of fields and the indices of lists.
type misfit struct {
	path []any
	text string
}

// misfits finds what the decoder would not take, by field, since its own errors name Go types; and turns durations into what
// it takes.
func misfits(node *yaml.Node, want reflect.Type, path []any) (found []misfit) {
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
			case seen[name]:
				found = append(found, misfit{at(name), "stands here twice"})
			case name == "<<":
				merged := []*yaml.Node{node.Content[i+1]} // fields of a mapping that stands elsewhere, or of several
				if merged[0].Kind == yaml.SequenceNode {
					merged = merged[0].Content
				}
				for _, from := range merged {
					found = append(found, misfits(from, want, path)...)
				}
			case !known:
				found = append(found, misfit{at(name), "there is no such field here" + suggestion(want, name)})
			default:
				found = append(found, misfits(node.Content[i+1], inside, at(name))...)
			}
			seen[name] = true
		}
	case node.Kind == yaml.ScalarNode && want == reflect.TypeFor[time.Duration]() && node.Tag != "!!null":
		d, err := ParseDuration(node.Value)
		if err != nil {
			return []misfit{{path, err.Error()}}
		}
		node.SetString(d.String())
	case node.Decode(reflect.New(want).Interface()) != nil:
		what := map[yaml.Kind]string{yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping", yaml.ScalarNode: fmt.Sprintf("%.64q", node.Value)}
		found = append(found, misfit{path, what[node.Kind] + " is not what belongs here" + wanted(want)})
	}
	return found
}

// wanted says what belongs into a field of a type.
func wanted(of reflect.Type) string {
	switch of.Kind() {
	case reflect.String:
		return ": want one text"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64, reflect.Float64:
		if of == reflect.TypeFor[time.Duration]() {
			return ": want a duration such as 24h"
		}
		return ": want a number"
	case reflect.Bool:
		return ": want true or false"
	case reflect.Slice:
		return ": want a list"
	case reflect.Struct, reflect.Map:
		return ": want fields, each as NAME: VALUE"
	}
	return ""
}

// fieldType is the type of what a name stands for in a struct, or in a map.
func fieldType(of reflect.Type, name string) (inside reflect.Type, known bool) {
	if of.Kind() == reflect.Map {
		return of.Elem(), true
	}
	for field, inside := range fields(of) {
		if field == name {
			return inside, true
		}
	}
	return nil, false
}

// fields are the names under which a struct's fields are written, those of inlined structs among them, and their types.
func fields(of reflect.Type) map[string]reflect.Type {
	all := make(map[string]reflect.Type)
	for i := range of.NumField() {
		f := of.Field(i)
		switch tag := f.Tag.Get("yaml"); tag {
		case "", "-":
		case Inline:
			maps.Copy(all, fields(f.Type))
		default:
			all[tag] = f.Type
		}
	}
	return all
}

// Inline is the tag of a struct whose fields stand among those of the struct around it.
const Inline = ",inline"

// suggestion is the field that somebody who wrote name may have meant, "" if none comes near.
func suggestion(of reflect.Type, name string) string {
	best, least := "", 1+min(2, len(name)/3)
	for _, field := range slices.Sorted(maps.Keys(fields(of))) {
		if d := distance(name, field); d < least {
			best, least = field, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters are to be added, dropped or replaced, or swapped with the next, to make b of a.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Locate follows a path, of names of fields and indices of lists, through the document: the line of the deepest part that stands
// there, from 1, and the path as people write it.
func (d Document) Locate(path ...any) (line int, field string) {
	node := d.top
	if node != nil {
		line = node.Line
	}
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

func child(node *yaml.Node, name string, line int) (*yaml.Node, int) {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, line
	}
	for i := len(node.Content) - 2; i >= 0; i -= 2 { // of two, the second is one too many
		if node.Content[i].Value == name {
			return node.Content[i+1], node.Content[i].Line
		}
	}
	return nil, line
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// broken turns what the decoder says of text that is no YAML into mistakes.
func broken(err error) (mistakes []Mistake) {
	texts := []string{err.Error()}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = e.Errors
	}
	for _, text := range texts {
		m := Mistake{Text: strings.TrimPrefix(text, "yaml: ")}
		if found := yamlLine.FindStringSubmatch(text); found != nil {
			m.Line, _ = strconv.Atoi(found[1]) // digits, by the expression
			m.Text = found[2]
		}
		mistakes = append(mistakes, m)
	}
	return mistakes
}
