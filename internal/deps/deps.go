// Package deps holds the import rules of the house as data and finds violations. It parses the sources inside the
// calling process: a rule test that shells out to the go command is served stale from the test cache.
package deps

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Violation is one breach of a rule.
type Violation struct {
	At   string // file:line
	Text string
}

// String is "file:line: text".
func (v Violation) String() string { return v.At + ": " + v.Text }

// Check parses every Go file below the root of the module and returns what breaks a rule, in the order of the files.
func Check(root fs.FS) ([]Violation, error) {
	c := &checker{files: token.NewFileSet()}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return c.directory(root, name, entry)
		}
		if strings.HasSuffix(name, ".go") {
			return c.file(root, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check imports: %w", err)
	}
	return c.found, nil
}

type checker struct {
	files *token.FileSet
	found []Violation
}

// directory skips what is no package of this module and judges the name of what is.
func (c *checker) directory(root fs.FS, name string, entry fs.DirEntry) error {
	base := entry.Name()
	if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
		return fs.SkipDir
	}
	if name != "." {
		if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
			return fs.SkipDir // a module of its own, such as the tools
		}
	}
	if slices.Contains(bannedNames, base) {
		c.found = append(c.found, Violation{name, fmt.Sprintf("a package named %s says nothing about what it is for", base)})
	}
	return nil
}

func (c *checker) file(root fs.FS, name string) error {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(c.files, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	test := strings.HasSuffix(name, "_test.go")
	if test && strings.HasSuffix(parsed.Name.Name, "_test") {
		return nil // external test packages may import anything
	}
	pkg := path.Dir(name)
	for _, spec := range parsed.Imports {
		c.checkImport(pkg, test, spec)
	}
	if !test {
		c.clock(pkg, parsed)
		if path.Base(name) == "store.go" {
			c.interfaces(parsed)
		}
	}
	return nil
}

// checkImport judges one import of a package.
func (c *checker) checkImport(pkg string, test bool, spec *ast.ImportSpec) {
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return // the parser has seen a string literal
	}
	if inner, ok := strings.CutPrefix(imported, module+"/"); ok {
		if inner != pkg && !allowed(inner, pkg) && !(test && slices.Contains(testSupport, inner)) {
			c.report(spec.Pos(), "%s may not import %s (ARCHITECTURE section 3, internal/deps/table.go)", pkg, inner)
		}
		return
	}
	if test {
		return
	}
	for _, rule := range confinements {
		if !matches(rule.imports, imported) {
			continue
		}
		if rule.only != nil && !matches(rule.only, pkg) || matches(rule.never, pkg) {
			c.report(spec.Pos(), "%s may not import %s: %s", pkg, imported, rule.why)
		}
	}
}

// clock finds calls of the wall clock. The function itself, not called, is the default of a Now field and allowed.
func (c *checker) clock(pkg string, file *ast.File) {
	if matches(clocks, pkg) {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); ok {
			if x, ok := f.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, f.Sel.Name) {
				c.report(call.Pos(), "time.%s reads the wall clock: take the time from a Now field", f.Sel.Name)
			}
		}
		return true
	})
}

// interfaces finds interfaces of a store.go with too many methods, those of other interfaces of the file included.
func (c *checker) interfaces(file *ast.File) {
	declared := map[string]*ast.InterfaceType{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if i, ok := spec.Type.(*ast.InterfaceType); ok {
				declared[spec.Name.Name] = i
			}
		}
		return true
	})
	for name, i := range declared {
		if methods := methodsOf(i, declared); methods > storeMethods {
			c.report(i.Pos(), "interface %s has %d methods: split it by who needs what (at most %d)", name, methods, storeMethods)
		}
	}
}

// methodsOf counts the methods of an interface, with those that it embeds from declared.
func methodsOf(i *ast.InterfaceType, declared map[string]*ast.InterfaceType) int {
	methods := 0
	for _, field := range i.Methods.List {
		methods += len(field.Names)
		if embedded, ok := field.Type.(*ast.Ident); ok && declared[embedded.Name] != nil {
			methods += methodsOf(declared[embedded.Name], declared)
		}
	}
	return methods
}

func (c *checker) report(pos token.Pos, format string, args ...any) {
	at := c.files.Position(pos)
	c.found = append(c.found, Violation{fmt.Sprintf("%s:%d", at.Filename, at.Line), fmt.Sprintf(format, args...)})
}

// allowed reports whether a line of the table lets pkg import imported.
func allowed(imported, pkg string) bool {
	return slices.ContainsFunc(table, func(r rule) bool {
		return matches(r.packages, imported) && matches(r.by, pkg)
	})
}

// matches reports whether a pattern names the package and no exception does.
func matches(patterns []string, pkg string) bool {
	found := false
	for _, pattern := range patterns {
		pattern, exception := strings.CutPrefix(pattern, except)
		tree, subtree := strings.CutSuffix(pattern, "...")
		tree = strings.TrimSuffix(tree, "/")
		if pattern == pkg || subtree && (tree == "" || pkg == tree || strings.HasPrefix(pkg, tree+"/")) {
			if exception {
				return false
			}
			found = true
		}
	}
	return found
}
