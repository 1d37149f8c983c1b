// Package api_test compares the exported API of the public packages with api/*.txt,
// so that each change of it is seen in review.
package api_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write api/*.txt")

const (
	root = "../.."
	hint = "\nIf the change is intended, run: go test ./test/api -update"
)

// notPublic are the folders of the root whose packages are not for import.
var notPublic = []string{"bench", "cmd", "examples", "internal", "test"}

// publicPackages are the folders of the public packages, below root.
func publicPackages(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name := d.Name(); slices.Contains(notPublic, filepath.ToSlash(rel)) || name == "internal" || name == "testdata" || name[0] == '.' {
			return filepath.SkipDir
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); len(files) > 0 {
			all = append(all, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// exportedAPI is the exported API of the package in folder on that system: a sorted
// list of declarations, without comments and bodies. It is read from the syntax,
// so fields and methods that an unexported embedded type promotes are not in it.
func exportedAPI(t *testing.T, folder, system string) string {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = system, "amd64", false
	p, err := ctx.ImportDir(filepath.Join(root, folder), 0)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var list []string
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, d := range file.Decls {
			for _, one := range split(d) {
				list = append(list, goSource(t, one))
			}
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n") + "\n"
}

// split makes a declaration of each type and variable of d, so that grouping does not
// matter, and drops a variable's value if it has a type. Constants stay together,
// because iota depends on the group.
func split(d ast.Decl) (all []ast.Decl) {
	g, ok := d.(*ast.GenDecl)
	if !ok {
		f := d.(*ast.FuncDecl)
		f.Body = nil
		if f.Recv != nil {
			f.Recv.List[0].Names = nil
			if !exportedReceiver(f.Recv.List[0].Type) {
				return nil
			}
		}
		return []ast.Decl{f}
	}
	switch g.Tok {
	case token.IMPORT:
		return nil
	case token.CONST:
		return []ast.Decl{d}
	}
	for _, spec := range g.Specs {
		if v, ok := spec.(*ast.ValueSpec); ok && v.Type != nil {
			v.Values = nil
		}
		all = append(all, &ast.GenDecl{Tok: g.Tok, Specs: []ast.Spec{spec}})
	}
	return all
}

// exportedReceiver reports whether t, the type of a receiver, is exported.
func exportedReceiver(t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.StarExpr:
		return exportedReceiver(t.X)
	case *ast.IndexExpr:
		return exportedReceiver(t.X)
	case *ast.IndexListExpr:
		return exportedReceiver(t.X)
	}
	return t.(*ast.Ident).IsExported()
}

// goSource is d in the format of gofmt, without positions, so that the blank lines of the
// source do not show.
func goSource(t *testing.T, d ast.Decl) string {
	t.Helper()
	var b bytes.Buffer
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			b.WriteString(unexported[n.Incomplete])
			n.Incomplete = false
		case *ast.InterfaceType:
			b.WriteString(unexported[n.Incomplete])
			n.Incomplete = false
		}
		return true
	})
	note := b.String()
	b.Reset()
	cfg := printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}
	if err := cfg.Fprint(&b, token.NewFileSet(), d); err != nil {
		t.Fatal(err)
	}
	return b.String() + note
}

// unexported is the note on a struct or an interface whose unexported parts are left out.
var unexported = map[bool]string{true: " // has unexported parts"}

func TestExportedAPI(t *testing.T) {
	packages := publicPackages(t)
	var want []string // the files that api must contain
	for _, p := range packages {
		name := strings.ReplaceAll(p, "/", "_") + ".txt"
		want = append(want, name)
		path := filepath.Join(root, "api", name)
		now := exportedAPI(t, p, "linux")
		if other := exportedAPI(t, p, "darwin"); other != now {
			t.Errorf("package %s has another API on darwin than on linux:\n%s", p, difference(now, other))
		}
		if *update {
			if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("package %s: %v%s", p, err, hint)
		} else if string(before) != now {
			t.Errorf("the API of package %s is not that of api/%s:\n%s%s", p, name, difference(string(before), now), hint)
		}
	}
	if len(packages) < 6 {
		t.Errorf("only the packages %v were found", packages)
	}
	files, err := os.ReadDir(filepath.Join(root, "api"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(want, f.Name()) {
			t.Errorf("api/%s has no package: remove it", f.Name())
		}
	}
}

// difference lists the lines that only one of the two texts has.
func difference(before, now string) string {
	var b strings.Builder
	list := func(mark, of, than string) {
		have := map[string]int{}
		for line := range strings.Lines(than) {
			have[line]++
		}
		for line := range strings.Lines(of) {
			if have[line]--; have[line] < 0 {
				b.WriteString(mark + line)
			}
		}
	}
	list("- ", before, now)
	list("+ ", now, before)
	return b.String()
}
