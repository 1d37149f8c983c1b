package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

// TestGuardsAreThere: each entry of the table fits the code, and names a test.
func TestGuardsAreThere(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range guards {
		if _, err := g.mutant(root); err != nil {
			t.Errorf("%s: %s: %v", g.File, g.name(), err)
		}
		re, err := regexp.Compile(g.Run)
		if err != nil {
			t.Errorf("%s: %s: %v", g.File, g.name(), err)
			continue
		}
		named := false
		for name := range testkit.TestsIn(t, filepath.Join(root, g.testPackage())) {
			named = named || re.MatchString(name)
		}
		if !named {
			t.Errorf("%s: %s: no test of %s matches %s", g.File, g.name(), g.testPackage(), g.Run)
		}
	}
}

func TestChooseDependsOnTheSeedOnly(t *testing.T) {
	names := func(s settings) string {
		var b strings.Builder
		for _, g := range choose(guards, s, &bytes.Buffer{}) {
			b.WriteString(g.File + " " + g.name() + "\n")
		}
		return b.String()
	}
	one := names(settings{sample: 3, seed: 7})
	if strings.Count(one, "\n") != 3 || one != names(settings{sample: 3, seed: 7}) {
		t.Errorf("chose\n%s", one)
	}
	if all := names(settings{all: true}); strings.Count(all, "\n") != len(guards) {
		t.Errorf("all are\n%s", all)
	}
	for _, g := range choose(guards, settings{sample: len(guards), seed: 1}, &bytes.Buffer{}) {
		if g.Slow {
			t.Errorf("%s: %s is slow, and in a sample", g.File, g.name())
		}
	}
}

// TestTry removes guards of a module of its own.
func TestTry(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/m\n\ngo 1.26\n",
		"m.go":   "package m\n\nfunc Clamp(n int) int {\n\tif n > 9 {\n\t\treturn 9\n\t}\n\tif n < -9 {\n\t\treturn -9\n\t}\n\treturn n\n}\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestClamp(t *testing.T) {\n" +
			"\tif n := Clamp(10); n != 9 {\n\t\tt.Error(n)\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		guard guard
		says  string
	}{
		{guard{File: "m.go", Old: "n > 9", New: "false", Run: "TestClamp"}, ""},
		{guard{File: "m.go", Old: "n < -9", New: "false", Run: "TestClamp"}, "SURVIVES"},
		{guard{File: "m.go", Old: "n > 9", New: "no", Run: "TestClamp"}, "does not compile"},
		{guard{File: "m.go", Old: "n > 9", New: "false", Run: "TestNone"}, "names no test"},
		{guard{File: "m.go", Old: "return", New: "panic", Run: "TestClamp"}, "out of date"},
		{guard{File: "m.go", Old: "n > 8", New: "false", Run: "TestClamp"}, "out of date"},
	} {
		out, err := c.guard.try(context.Background(), root)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q; it printed %s", c.guard.name(), err, c.says, out)
		}
	}
}
