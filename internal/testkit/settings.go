package testkit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Proof shows that a setting is read: by Check, or by the test named Test, which
// fails if the setting is ignored for the reason Why.
type Proof struct {
	Check func(*testing.T)
	Test  string
	Why   string
}

// Proof returns p, so that a Proof is a Prover.
func (p Proof) Proof() Proof { return p }

// Prover is a Proof, or a package's own type for one.
type Prover interface{ Proof() Proof }

// EverySettingIsRead fails the test unless every exported field of the struct
// settings has a proof, and runs the proofs' checks. tests are the tests that a
// proof may name, as TestsIn returns them.
func EverySettingIsRead[P Prover](t *testing.T, settings any, tests map[string]bool, proofs map[string]P) {
	t.Helper()
	of := reflect.TypeOf(settings)
	for name := range proofs {
		if _, ok := of.FieldByName(name); !ok {
			t.Errorf("%s has no field %s any more", of, name)
		}
	}
	for f := range of.Fields() {
		if !f.IsExported() {
			continue
		}
		prover, ok := proofs[f.Name]
		if !ok {
			t.Errorf("nothing shows that %s.%s is read", of, f.Name)
			continue
		}
		switch p := prover.Proof(); {
		case p.Check != nil:
			t.Run(of.Name()+"."+f.Name, p.Check)
		case !tests[p.Test] || p.Why == "":
			t.Errorf("%s.%s: there is no test %q, or no reason why it would fail", of, f.Name, p.Test)
		}
	}
}

// TestsIn returns the names of the tests in a folder, those of other systems too.
func TestsIn(t testing.TB, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: no package with tests: %v", folder, err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests[fn.Name.Name] = true
			}
		}
	}
	return tests
}
