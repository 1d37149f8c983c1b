package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeCheckout has the files that show a checkout, with the text of App.h.
func fakeCheckout(t *testing.T, app string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"src/App.h": app, "uSockets/src/libusockets.h": "", "uSockets/src/loop.c": "int one;"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSkipUWebSockets checks that without sources, without a compiler, and with sources
// that don't compile, the other contestants stay and the reason is reported.
func TestSkipUWebSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a compiler")
	}
	broken := "the broken header"
	for _, c := range []struct{ name, dir, path, reason string }{
		{"no sources", t.TempDir(), os.Getenv("PATH"), "App.h"},
		{"no submodule", filepath.Join(fakeCheckout(t, ""), "uSockets"), os.Getenv("PATH"), "App.h"},
		{"no compiler", fakeCheckout(t, ""), "", "executable file not found"},
		{"an error", fakeCheckout(t, "#error "+broken+"\n"), os.Getenv("PATH"), broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath("c++"); err != nil && c.reason == broken {
				t.Skip("there is no C++ compiler here")
			}
			t.Setenv("PATH", c.path)
			root, err := filepath.Abs("../..")
			if err != nil {
				t.Fatal(err)
			}
			set := settings{uwebsockets: c.dir, rounds: 1, duration: time.Second, warmup: time.Second}
			if set.groups, err = choose(set.withOptional(groups), "ws", ""); err != nil {
				t.Fatal(err)
			}
			var progress bytes.Buffer
			set.buildOptional(t.Context(), root, t.TempDir(), &progress)
			g := &set.groups[0]
			if len(g.contestants) != len(wsGroup.contestants) || !strings.Contains(progress.String(), "SKIPPED in group ws: "+uwebsockets) ||
				!strings.Contains(progress.String(), c.reason) {
				t.Errorf("%d contestants, progress: %s", len(g.contestants), &progress)
			}
			if text := report(g, nil, set); !strings.Contains(text, "- **Skipped**: "+uwebsockets+": ") {
				t.Errorf("the report doesn't have the skip:\n%s", text)
			}
		})
	}
}

// TestSkipsWithoutFlags checks the notes about rivals that weren't asked for.
func TestSkipsWithoutFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                    "SKIPPED in group ws: uWebSockets, one loop: no --uwebsockets DIR\ncompare: SKIPPED in group msgtrans: msgtrans: no --msgtrans PATH\n",
		"--group msgtrans":                    "SKIPPED in group msgtrans: msgtrans: no --msgtrans PATH\n",
		"--group msgtrans --only Millrace":    "",
		"--group tcp":                         "",
		"--group msgtrans --msgtrans /bin/sh": "",
	} {
		var stderr, progress bytes.Buffer
		set, err := parseFlags(strings.Fields(args), &stderr)
		if err != nil {
			t.Fatal(err)
		}
		set.buildOptional(t.Context(), "", "", &progress)
		if got := strings.TrimPrefix(progress.String(), "compare: "); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

// TestOptionalFlags checks that the command in the results has no path of this machine.
func TestOptionalFlags(t *testing.T) {
	set := settings{msgtrans: "/here", uwebsockets: "/there"}
	if a, b, c := set.optionalFlags(&msgtransGroup), set.optionalFlags(&wsGroup), set.optionalFlags(&tcpGroup); a != " --msgtrans PATH" ||
		b != " --uwebsockets DIR" || c != "" {
		t.Errorf("%q, %q, %q", a, b, c)
	}
}

// TestStartOfAPath checks that a program with an absolute path is started.
func TestStartOfAPath(t *testing.T) {
	program := filepath.Join(script(t, "echo ready tcp://127.0.0.1:1\nexec sleep 60\n"), "server")
	s, err := start(t.TempDir(), contestant{name: "elsewhere", program: program, scheme: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
}
