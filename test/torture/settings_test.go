package torture_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/mux"
)

// TestHazard24EverySettingIsRead requires, for every setting of the packages above engine
// that have few, a test that fails when the setting is ignored. The reason is next to
// it. engine and quicbridge have tests of that name for their own settings.
func TestHazard24EverySettingIsRead(t *testing.T) {
	for pkg, proofs := range map[string]map[string]string{
		"mux": {
			"MaxPending": "TestMaxPending", // the third request of two must fail; the default is 65,536
		},
		"client": {
			"WithTLS":           "TestHazard25TLSIsVerifiedByDefault", // without its roots the same server is refused
			"WithHandler":       "TestWithHandler",                    // without it the handler is never called
			"WithHeader":        "TestOrdinaryWebSocketServer",        // without it the server gets no token
			"WithSubprotocols":  "TestOrdinaryWebSocketServer",        // without it the server selects none
			"WithPlainMessages": "TestOrdinaryWebSocketServer",        // without it the client sends packets
			"WithProxy":         "TestWithProxy",                      // without it the proxy opens no tunnel
			"WithLimits":        "TestLimitFields",                    // and TestMaxEventBytes, for each field
		},
	} {
		tests := testsOf(t, pkg)
		settings := optionsOf(t, pkg)
		if pkg == "mux" {
			for f := range reflect.TypeFor[mux.Config]().Fields() {
				settings = append(settings, f.Name)
			}
		}
		if len(settings) != len(proofs) {
			t.Errorf("%s: settings %v, proofs %v", pkg, settings, proofs)
		}
		for _, s := range settings {
			if !tests[proofs[s]] {
				t.Errorf("nothing shows that %s.%s is read: there is no test %q", pkg, s, proofs[s])
			}
		}
	}
}

// optionsOf are the exported functions of a package that return an Option.
func optionsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(root, pkg))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, pkg, file.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
				continue
			}
			if id, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && id.Name == "Option" {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
