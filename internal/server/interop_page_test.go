package server_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInteropPage holds docs/INTEROP.md to the tests: the table of readers is that of TestInteropReaders, every test
// with a foreign judge is named, every test named exists, and scripts/test installs every judge.
func TestInteropPage(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "INTEROP.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	if want := readersTable(); !strings.Contains(page, want) {
		t.Errorf("docs/INTEROP.md does not hold the table of readers as it is:\n%s", want)
	}
	for _, s := range foreignServers {
		if !strings.Contains(page, strings.TrimPrefix(s.name, "openssl ")) {
			t.Errorf("docs/INTEROP.md does not name the server %s", s.name)
		}
	}
	script, err := os.ReadFile(filepath.Join(root, "scripts", "test"))
	if err != nil {
		t.Fatal(err)
	}
	for program, pkg := range packages {
		if !strings.Contains(page, "| "+pkg+" |") {
			t.Errorf("docs/INTEROP.md does not name the package %s of %s", pkg, program)
		}
		if !regexp.MustCompile(`(?m)^ *need \S+ ` + pkg + `$`).Match(script) {
			t.Errorf("scripts/test does not install %s for %s", pkg, program)
		}
	}
	tests := testsByPackage(t, root)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` (Test[^|]+) \\|").FindAllStringSubmatch(page, -1) {
		for _, name := range strings.Split(row[2], ", ") {
			if _, exists := tests[row[1]+" "+name]; !exists {
				t.Errorf("docs/INTEROP.md names %s of %s, which does not exist", name, row[1])
			}
			tests[row[1]+" "+name] = true
		}
	}
	for name, documented := range tests {
		if here := strings.HasPrefix(name, "internal/server "); !documented && !here && strings.Contains(name, " TestInterop") {
			t.Errorf("docs/INTEROP.md does not name %s", name)
		}
	}
}

// readersTable is how the page shows the readers.
func readersTable() string {
	var table strings.Builder
	table.WriteString("| reader | looks at | |\n| --- | --- | --- |\n")
	for _, r := range readers {
		looks, note := "the certificate", ""
		switch {
		case r.chain:
			looks = "the whole chain"
		case r.staples:
			looks = "the staple"
		}
		if r.believes {
			note = "verifies no signature of what it is given"
		}
		table.WriteString("| " + r.name + " | " + looks + " | " + note + " |\n")
	}
	return table.String()
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsByPackage finds every test, as "package Test".
func testsByPackage(t *testing.T, root string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		for _, match := range testFunction.FindAllSubmatch(source, -1) {
			found[filepath.Dir(name)+" "+string(bytes.TrimSpace(match[1]))] = false
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
