package results

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var tcp, ws = Part{"tcp", "bench/compare"}, Part{"ws", "bench/compare"}

func TestReplacePart(t *testing.T) {
	b, e := tcp.begin(), tcp.end()
	for _, c := range []struct{ name, file, want string }{
		{"none yet", "# R\n\nby hand\n", "# R\n\nby hand\n\n" + b + "\nnew\n" + e + "\n"},
		{"replaced", "top\n" + b + "\nold\n\nold\n" + e + "\nbottom\n", "top\n" + b + "\nnew\n" + e + "\nbottom\n"},
		{"at the end without a line feed", b + "\n" + e, b + "\nnew\n" + e},
		{"mentioned in the text", "see `" + b + "`\n" + b + "\nold\n" + e + "\n", "see `" + b + "`\n" + b + "\nnew\n" + e + "\n"},
		{"another group's", ws.begin() + "\nx\n" + ws.end() + "\n",
			ws.begin() + "\nx\n" + ws.end() + "\n\n" + b + "\nnew\n" + e + "\n"},
	} {
		got, err := tcp.replace(c.file, "new\n\n")
		if err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", c.name, err, got, c.want)
		}
		if again, err := tcp.replace(got, "new"); err != nil || again != got {
			t.Errorf("%s: a second time changes it: %v\n%s", c.name, err, again)
		}
	}
}

func TestReplacePartRefuses(t *testing.T) {
	b, e := tcp.begin()+"\n", tcp.end()+"\n"
	for _, file := range []string{b, e, e + b, b + b + e, b + e + e, b + e + b + e} {
		if got, err := tcp.replace(file, "new"); err == nil {
			t.Errorf("%q became %q", file, got)
		}
	}
}

func TestWritePart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.md")
	for _, part := range []struct {
		of   Part
		text string
	}{{tcp, "one"}, {ws, "two"}, {tcp, "three"}} {
		if err := part.of.Write(path, part.text); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	want := "# Results\n\n" + tcp.begin() + "\nthree\n" + tcp.end() + "\n\n" +
		ws.begin() + "\ntwo\n" + ws.end() + "\n"
	if err != nil || string(got) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
	broken := strings.Replace(want, ws.end(), "", 1)
	if err := os.WriteFile(path, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	if ws.Check(path) == nil || ws.Write(path, "four") == nil {
		t.Error("no error for a marker without its other")
	}
	if got, _ := os.ReadFile(path); string(got) != broken {
		t.Errorf("a refused file was changed to\n%s", got)
	}
	if rest, _ := filepath.Glob(path + ".*"); len(rest) > 0 {
		t.Errorf("left behind: %v", rest)
	}
}
