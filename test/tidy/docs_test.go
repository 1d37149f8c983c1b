package tidy_test

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// names are the identifiers of the sources: those that are declared, and those that are
// selected, "flushLocked" of "w.flushLocked".
type names struct {
	declared map[string]bool // of constants, variables, types, functions, methods and fields
	members  map[string]bool // "Type.member" of our types, "package.Name" of all packages
	types    map[string]bool
}

func namesOf(all []*source) *names {
	n := &names{declared: map[string]bool{}, members: map[string]bool{}, types: map[string]bool{}}
	for _, s := range all {
		pkg := strings.TrimSuffix(s.file.Name.Name, "_test")
		n.types[pkg] = true
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				n.add(pkg, f.Name.Name)
				if f.Recv != nil {
					n.add(receiver(f.Recv.List[0].Type), f.Name.Name)
				}
			}
		}
		ast.Inspect(s.file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.TypeSpec:
				n.add(pkg, node.Name.Name)
				n.types[node.Name.Name] = true
				n.addFields(node)
			case *ast.ValueSpec:
				for _, name := range node.Names {
					n.add(pkg, name.Name)
				}
			case *ast.SelectorExpr:
				if x, ok := node.X.(*ast.Ident); ok {
					n.members[x.Name+"."+node.Sel.Name] = true
				}
			}
			return true
		})
	}
	return n
}

func (n *names) add(of, name string) {
	n.declared[name] = true
	n.members[of+"."+name] = true
}

// addFields adds the fields of a struct, and the methods of an interface.
func (n *names) addFields(t *ast.TypeSpec) {
	var fields *ast.FieldList
	switch u := t.Type.(type) {
	case *ast.StructType:
		fields = u.Fields
	case *ast.InterfaceType:
		fields = u.Methods
	default:
		return
	}
	for _, f := range fields.List {
		for _, name := range f.Names {
			n.add(t.Name.Name, name.Name)
		}
	}
}

// receiver is the name of a receiver's type.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// has reports whether the sources have the name: "Name", or "Type.Name", of which further
// parts are not looked up.
func (n *names) has(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) == 1 {
		return n.declared[name] || n.types[name]
	}
	return n.members[parts[0]+"."+parts[1]]
}

var (
	code       = regexp.MustCompile("`[^`\n]+`")
	goFileName = regexp.MustCompile(`[a-z0-9_/\\*]+\.go\b`)
	identifier = regexp.MustCompile(`^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*$`)
)

// notOurs are words in the code font of the documents that no Go source of ours declares.
var notOurs = map[string]bool{
	"write": true, "writev": true, "epoll_ctl": true, // system calls
	"EADDRINUSE": true, "SO_LINGER": true, "SO_REUSEPORT": true,
	"poll_opt": true, "depguard": true, // a build tag, a linter
	"Temporary": true, // a method of net.Error
	"unix":      true, // a transport's name
}

// TestArchitectureNamesTheCode reads docs/ARCHITECTURE.md: the sources must have each Go
// file and each identifier that it names.
func TestArchitectureNamesTheCode(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := sources(t)
	known := namesOf(all)
	paths := map[string]bool{}
	for _, s := range all {
		paths[s.path], paths[path.Base(s.path)] = true, true
	}
	checked := 0
	for i, line := range strings.Split(string(text), "\n") {
		for _, file := range goFileName.FindAllString(line, -1) {
			if file = strings.ReplaceAll(file, `\`, ""); strings.Contains(file, "*") {
				if found, _ := filepath.Glob(filepath.Join(root, file)); len(found) == 0 {
					t.Errorf("line %d: no file matches %s", i+1, file)
				}
			} else if checked++; !paths[file] {
				t.Errorf("line %d: there is no file %s", i+1, file)
			}
		}
		for _, name := range code.FindAllString(line, -1) {
			name = strings.TrimSuffix(strings.Trim(name, "`"), "()")
			if !identifier.MatchString(name) || notOurs[name] || strings.HasSuffix(name, ".go") {
				continue
			}
			if checked++; !known.has(name) {
				t.Errorf("line %d: there is no %s", i+1, name)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d names were checked", checked)
	}
}

// TestEngineTypesNameTheirReader: the comment of an exported type of package engine begins
// with the note that it is for protocol authors, or the package's comment links the type
// for applications.
func TestEngineTypesNameTheirReader(t *testing.T) {
	const note = ", for protocol authors, "
	var packageComment string
	comments := map[string]string{}
	for _, s := range sources(t) {
		if s.pkg() != "engine" || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		if s.file.Doc != nil {
			packageComment = s.file.Doc.Text()
		}
		for _, d := range s.file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && len(g.Specs) == 1 {
				if spec, ok := g.Specs[0].(*ast.TypeSpec); ok && spec.Name.IsExported() {
					comments[spec.Name.Name] = g.Doc.Text()
				}
			}
		}
	}
	applications, _, ok := strings.Cut(packageComment, "# For protocol authors")
	if !ok || len(comments) < 40 {
		t.Fatalf("the package's comment has no such section, or %d types are too few", len(comments))
	}
	for name, comment := range comments {
		listed := strings.Contains(applications, "["+name+"]")
		if first, _, _ := strings.Cut(comment, "."); strings.Contains(first, name+note) == listed {
			t.Errorf("type %s must be either %q or in the package's comment, for applications", name, strings.Trim(note, ", "))
		}
	}
}
