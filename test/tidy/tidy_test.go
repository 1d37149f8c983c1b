// Package tidy_test checks the rules of CONTRIBUTING.md that no linter here checks.
package tidy_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root = "../.."

	maxFileLines     = 500
	maxFunctionLines = 70
	maxColumns       = 140 // characters, of which a tab is one
)

// source is a parsed file.
type source struct {
	path string // below root, with slashes
	text []byte
	set  *token.FileSet
	file *ast.File
}

// pkg is the folder of the source's package.
func (s *source) pkg() string { return filepath.ToSlash(filepath.Dir(s.path)) }

func (s *source) line(p token.Pos) int { return s.set.Position(p).Line }

// sources are all Go files below root.
func sources(t *testing.T) (all []*source) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (name == "testdata" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		s := &source{set: token.NewFileSet()}
		if s.text, err = os.ReadFile(path); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s.path = filepath.ToSlash(rel)
		s.file, err = parser.ParseFile(s.set, path, s.text, parser.ParseComments|parser.SkipObjectResolution)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d files were found", len(all))
	}
	return all
}

// exceptions are the named violations of a rule, each with its reason. One that
// is not needed any more fails the test, too.
type exceptions struct {
	reasons map[string]string
	used    map[string]bool
}

func allow(reasons map[string]string) *exceptions {
	return &exceptions{reasons: reasons, used: map[string]bool{}}
}

func (e *exceptions) has(name string) bool {
	e.used[name] = true
	return e.reasons[name] != ""
}

func (e *exceptions) check(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(e.reasons)) {
		if !e.used[name] {
			t.Errorf("%s keeps the rule: remove its exception", name)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	e := allow(longFiles)
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxFileLines && !e.has(s.path) {
			t.Errorf("%s has %d lines, more than %d", s.path, n, maxFileLines)
		}
	}
	e.check(t)
}

func TestLinesAreShort(t *testing.T) {
	e := allow(wideLines)
	for _, s := range sources(t) {
		n := 0
		for line := range strings.Lines(string(s.text)) {
			n++
			if columns := len([]rune(strings.TrimRight(line, "\n"))); columns > maxColumns && !e.has(s.path) && !e.has(s.pkg()) {
				t.Errorf("%s:%d has %d columns, more than %d", s.path, n, columns, maxColumns)
			}
		}
	}
	e.check(t)
}

func TestFunctionsAreShort(t *testing.T) {
	e := allow(longFunctions)
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.line(fn.End()) - s.line(fn.Pos()) + 1
			if n > maxFunctionLines && !e.has(s.pkg()+"."+fn.Name.Name) {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, s.line(fn.Pos()), fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
	e.check(t)
}

// TestHelpersAreShared: a helper that the tests of two packages need belongs in
// internal/testkit. Helpers that do different things have different names.
func TestHelpersAreShared(t *testing.T) {
	declared := map[string]map[string]bool{} // the packages of each helper
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || fn.Name.IsExported() || fn.Name.Name == "init" {
				continue
			}
			if declared[fn.Name.Name] == nil {
				declared[fn.Name.Name] = map[string]bool{}
			}
			declared[fn.Name.Name][s.pkg()] = true
		}
	}
	e := allow(sameNames)
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if packages := declared[name]; len(packages) > 1 && !e.has(name) {
			t.Errorf("the tests of %v have a helper %s each", slices.Sorted(maps.Keys(packages)), name)
		}
	}
	e.check(t)
}

// vague matches relative pronouns without a definite subject or object.
var vague = regexp.MustCompile(`(?i)\b(whoever|whatever)\b`)

func TestCommentsNameTheirSubject(t *testing.T) {
	e := allow(vagueComments)
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if word := vague.FindString(c.Text); word != "" && !e.has(s.path) && !e.has(s.pkg()) {
					t.Errorf("%s:%d: %q in a comment", s.path, s.line(c.Pos()), word)
				}
			}
		}
	}
	e.check(t)
}
