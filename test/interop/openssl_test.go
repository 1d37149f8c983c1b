// Package interop tests Millrace with software of other projects. A test is skipped,
// with a message, if its tool is missing.
package interop

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// tool returns the path of a program, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed: %v", name, err)
	}
	return path
}

// TestTLSKeyUpdate makes openssl change its keys during a session, and request a key
// update of the server (RFC 8446 section 4.6.3). The server makes its answer while
// reading, and must write it between the records of replies.
func TestTLSKeyUpdate(t *testing.T) {
	openssl := tool(t, "openssl")
	_, addr := serve.Start(t, engine.Config{Handler: serve.Echo},
		engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Framed(framing.Line{}))
	client := exec.Command(openssl, "s_client", "-connect", addr, "-tls1_3")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, both, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	client.Stdout, client.Stderr = both, both
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	_ = both.Close()
	patience := time.AfterFunc(time.Minute, func() { _ = client.Process.Kill() })
	defer patience.Stop()
	defer func() { _ = client.Wait() }()

	lines := bufio.NewReader(out)
	await := func(want string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if strings.TrimSpace(line) == want {
				return
			}
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
		}
	}
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	say("before")
	await("before")
	for _, command := range []string{"k", "K", "k", "K", "K"} { // k updates its own keys; K also requests an update of the server's
		say(command)
		await("KEYUPDATE")
		say("after " + command)
		await("after " + command)
	}
	say("Q")
}
