package quicbridge

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// idleClients is set in the environment of the process that holds the clients.
const idleClients = "QUICBRIDGE_IDLE_CLIENTS"

// TestIdleMemory bounds the server's memory for an idle session. The clients run in
// another process, so that their memory isn't counted.
func TestIdleMemory(t *testing.T) {
	const n, goal = 200, 40 << 10 // bytes of heap a session
	if addr := os.Getenv(idleClients); addr != "" {
		holdClients(t, addr, n)
		return
	}
	srv := serve(t, engine.Config{Handler: echo}, Config{IdleTimeout: time.Hour})
	// Memory that the first session allocates for all of them isn't counted.
	ask(t, raw(t, srv.addr, nil, ALPN))
	for s := range srv.Sessions() {
		s.Abort(nil)
	}
	eventually(t, "the first session to end", func() bool { return srv.Stats().Active == 0 })
	before := heap()
	child := exec.Command(os.Args[0], "-test.run=^TestIdleMemory$")
	child.Env = append(os.Environ(), idleClients+"="+srv.addr)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = child.Wait()
	}()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the clients say %q, %v", line, err)
	}
	time.Sleep(time.Second) // connection ids retire, probes of the path end
	perSession := (heap() - before) / n
	t.Logf("%d bytes of heap a session", perSession)
	if perSession > goal {
		t.Errorf("an idle session holds %d bytes of heap, the goal is %d", perSession, goal)
	}
}

// heap returns the process's heap after a garbage collection, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // empties the pools, too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// holdClients opens n sessions, uses each once, and holds them until its input
// ends.
func holdClients(t *testing.T, addr string, n int) {
	var idle []*quic.Conn
	// Another process has another development certificate.
	insecure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ALPN}}
	for i := range n {
		q, err := quic.DialAddr(t.Context(), addr, insecure,
			&quic.Config{EnableDatagrams: true, MaxIdleTimeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, q)
		send(t, s, request(t, uint32(i), "x"))
		expect(t, s, framing.Response, uint32(i), "x")
		idle = append(idle, q)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(idle)
	os.Exit(0) // as clients do that are gone
}
