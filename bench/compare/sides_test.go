package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes one whose cmd/echo prints "one" in its first revision, "two"
// in its second and "three" in its working tree.
func repository(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git here")
	}
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		args = append([]string{"-C", root, "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	program := func(word string) {
		write("cmd/echo/main.go", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Print(\""+word+"\") }\n")
	}
	git("init", "--quiet")
	write("go.mod", "module example.org/echo\n\ngo 1.26\n")
	for _, word := range []string{"one", "two"} {
		program(word)
		git("add", ".")
		git("commit", "--quiet", "--message", "print "+word)
	}
	program("three")
	return root
}

func TestBuildRevision(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the compiler")
	}
	root := repository(t)
	for _, c := range []struct{ revision, about, prints string }{
		{"HEAD~1", " print one", "one"},
		{"HEAD", " print two", "two"},
		{"worktree", "the working tree", "three"},
		{".", "the working tree", "three"},
	} {
		s, err := buildRevision(context.Background(), root, t.TempDir(), c.revision)
		if err != nil {
			t.Fatal(c.revision, err)
		}
		out, err := exec.Command(s.path).Output()
		if err != nil || string(out) != c.prints || !strings.HasSuffix(s.about, c.about) {
			t.Errorf("%s: %q prints %q, %v", c.revision, s.about, out, err)
		}
	}
	status, err := exec.Command("git", "-C", root, "status", "--porcelain").Output()
	if err != nil || string(status) != " M cmd/echo/main.go\n" {
		t.Errorf("the repository's state has changed: %q, %v", status, err)
	}
	for _, wrong := range []string{"nowhere", "--help", "HEAD HEAD~1"} {
		if s, err := buildRevision(context.Background(), root, t.TempDir(), wrong); err == nil {
			t.Errorf("%q was built: %v", wrong, s)
		}
	}
}

func TestCopyBinary(t *testing.T) {
	dir := t.TempDir()
	set := settings{binaries: [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	for i, path := range set.binaries {
		if err := os.WriteFile(path, []byte{byte(i)}, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sides, err := makeSides(context.Background(), "", t.TempDir(), set)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range sides {
		b, err := os.ReadFile(s.path)
		if err != nil || len(b) != 1 || b[0] != byte(i) || s.about != set.binaries[i] || s.path == set.binaries[i] {
			t.Errorf("%+v holds %v, %v", s, b, err)
		}
	}
	set.binaries[1] = filepath.Join(dir, "absent")
	if _, err := makeSides(context.Background(), "", t.TempDir(), set); err == nil || !strings.Contains(err.Error(), "new: ") {
		t.Error(err)
	}
}
