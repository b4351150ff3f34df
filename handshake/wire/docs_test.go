package wire_test

import (
	"encoding"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
)

// TestDocumentedTrace holds the page to the fields of a Step: programs read them, so each is documented, and one that is gone is missed.
func TestDocumentedTrace(t *testing.T) {
	page, err := os.ReadFile("../../docs/HANDSHAKE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## What `--trace json` prints")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found {
		t.Fatal("the page has no such section")
	}
	var rows []string
	fieldsOf(reflect.TypeFor[wire.Step](), "", &rows)
	for _, row := range rows {
		if !strings.Contains(section, row) {
			t.Errorf("the page does not hold %s", row)
		}
	}
	if have := strings.Count(section, "\n| `") + 1; have != len(rows) {
		t.Errorf("the page has rows for %d objects, want %d", have, len(rows))
	}
}

// fieldsOf writes a row for an object and one for each object in it.
func fieldsOf(object reflect.Type, path string, rows *[]string) {
	var names []string
	at := len(*rows)
	*rows = append(*rows, "")
	for _, field := range reflect.VisibleFields(object) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" || field.Anonymous {
			continue
		}
		names = append(names, "`"+name+"`")
		kind := field.Type
		for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice {
			kind = kind.Elem()
		}
		isText := kind.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || kind == reflect.TypeFor[time.Time]()
		if kind.Kind() == reflect.Struct && !isText {
			fieldsOf(kind, strings.TrimPrefix(path+"."+name, "."), rows)
		}
	}
	if path == "" {
		path = "a step"
	} else {
		path = "`" + path + "`"
	}
	(*rows)[at] = "| " + path + " | " + strings.Join(names, ", ") + " |"
}
