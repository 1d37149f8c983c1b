package api_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// imports are the packages that the snippets may use, by their names.
var imports = map[string]string{
	"client": "github.com/millrace/millrace/client", "engine": "github.com/millrace/millrace/engine",
	"framing": "github.com/millrace/millrace/framing", "mux": "github.com/millrace/millrace/mux",
	"quicbridge": "github.com/millrace/millrace/quicbridge", "wsupgrade": "github.com/millrace/millrace/wsupgrade",
	"bytes": "bytes", "binary": "encoding/binary", "context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "log": "log",
	"netip": "net/netip", "os": "os", "strings": "strings", "sync": "sync", "time": "time",
}

var (
	goBlock   = regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	qualifier = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)
	comment   = regexp.MustCompile(`//.*`)
)

// snippet makes a file of the Go code of a document: a whole file, or declarations
// without a package clause and imports.
func snippet(code string) string {
	if strings.HasPrefix(code, "package ") {
		return code
	}
	var used []string
	for _, m := range qualifier.FindAllStringSubmatch(comment.ReplaceAllString(code, ""), -1) {
		if path := imports[m[1]]; path != "" && !slices.Contains(used, path) {
			used = append(used, path)
		}
	}
	file := "package snippet\n\n"
	for _, path := range used {
		file += fmt.Sprintf("import %q\n", path)
	}
	return file + "\n" + code
}

// TestSnippetsCompile compiles each Go block of the documents for users, in a package of
// its own that exists in an overlay only: "API_block_2" is the second block of docs/API.md.
func TestSnippetsCompile(t *testing.T) {
	folder, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]string{}
	args := []string{"build", "-overlay", filepath.Join(t.TempDir(), "overlay.json")}
	for _, doc := range []string{"README.md", "docs/API.md"} {
		text, err := os.ReadFile(filepath.Join(root, doc))
		if err != nil {
			t.Fatal(err)
		}
		blocks := goBlock.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no Go code", doc)
		}
		for i, block := range blocks {
			name := fmt.Sprintf("%s_block_%d", strings.TrimSuffix(filepath.Base(doc), ".md"), i+1)
			path := filepath.Join(t.TempDir(), "snippet.go")
			if err := os.WriteFile(path, []byte(snippet(block[1])), 0o644); err != nil {
				t.Fatal(err)
			}
			overlay[filepath.Join(folder, name, "snippet.go")] = path
			args = append(args, "./"+name)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(args[2], list, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("go build: %v\n%s", err, out)
	}
}

// TestReadmeShowsTheQuickstart: the server of README.md is examples/quickstart.
func TestReadmeShowsTheQuickstart(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(root, "examples", "quickstart", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range goBlock.FindAllStringSubmatch(string(text), -1) {
		if block[1] == string(program) {
			return
		}
	}
	t.Error("no Go block of README.md is examples/quickstart/main.go")
}
