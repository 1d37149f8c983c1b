package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

func init() { runLimited = execLimited }

// execLimited becomes the program args[1:] with at most args[0] descriptors.
func execLimited(args []string) {
	n, err := strconv.ParseUint(args[0], 10, 64)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
	}
	if err == nil {
		err = syscall.Exec(args[1], args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestHazard08AcceptSurvivesWantOfDescriptors fills a server up to its limit.
// Its sessions continue. When some of them end, waiting connections are accepted.
func TestHazard08AcceptSurvivesWantOfDescriptors(t *testing.T) {
	const limit = 100 // descriptors; the server needs some of them itself
	echo, err := echoBinary()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := testkit.StartProcess(t, self, limitedArg, strconv.Itoa(limit), echo, "--addr", "127.0.0.1:0")

	var answered atomic.Int64
	var peers []*peer
	var asking sync.WaitGroup
	t.Cleanup(asking.Wait)
	for range limit {
		p := dialTCP(t, testkit.HostPort(server.Endpoints[0]))
		t.Cleanup(p.close)
		peers = append(peers, p)
		asking.Go(func() {
			if err := p.ask(1, "in?"); err == nil {
				answered.Add(1)
			} else {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, func() bool { return strings.Contains(server.Log.String(), "accepting pauses") }, "the server is full")
	testkit.Eventually(t, func() bool { return testkit.Descriptors(server.Process.Pid) >= limit }, "the server has no descriptor left")
	held := settledCount(&answered)
	if held < limit/4 || held >= limit {
		t.Fatalf("%d sessions got in with %d descriptors", held, limit)
	}

	// Accepting is first come, first served: the first ones are in.
	for i, p := range peers[:held] {
		if err := p.ask(2, "still here?"); err != nil {
			t.Fatalf("session %d of %d: %v", i+1, held, err)
		}
	}
	// For each connection that ends, one more is accepted, and no more.
	leaving := (limit - held) / 2
	for _, p := range peers[:leaving] {
		p.close()
	}
	testkit.Eventually(t, func() bool { return answered.Load() >= int64(held+leaving) }, "those who waited are served")
	for _, p := range peers[leaving:held] {
		if err := p.ask(3, "and now?"); err != nil {
			t.Fatal(err)
		}
		p.close()
	}
	testkit.Eventually(t, func() bool { return answered.Load() == limit }, "all connections were served")
	late := dialTCP(t, testkit.HostPort(server.Endpoints[0]))
	defer late.close()
	if err := late.ask(1, "and me?"); err != nil {
		t.Fatal(err)
	}
}

// settledCount waits until n hasn't changed for a while, and returns it. A count
// taken too early doesn't fail the test: that many sessions were accepted.
func settledCount(n *atomic.Int64) int {
	for {
		before := n.Load()
		time.Sleep(300 * time.Millisecond)
		if n.Load() == before {
			return int(before)
		}
	}
}

// TestTenThousandSessions has one server process hold them all, a tenth of them
// WebSockets. Each is asked when it comes, and again when all are there.
func TestTenThousandSessions(t *testing.T) {
	const sessions, dialing = 10_000, 32
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < sessions+200 {
		t.Skipf("this machine allows a process %d descriptors, and the test needs %d", limit.Max, sessions+200)
	}
	echo, err := echoBinary()
	if err != nil {
		t.Fatal(err)
	}
	server := testkit.StartProcess(t, echo, "--addr", "127.0.0.1:0")
	empty := testkit.ResidentBytes(server.Process.Pid)

	conns := make([]net.Conn, sessions)
	t.Cleanup(func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	})
	request, response := testkit.Unhex(pingPacket), testkit.Unhex(pongPacket)
	errs := make(chan error, dialing)
	for d := range dialing {
		go func() {
			for i := d; i < sessions; i += dialing {
				conn, err := testkit.DialFrom(i, testkit.HostPort(server.Endpoints[0]))
				if err == nil {
					conns[i] = conn
					conn.SetDeadline(time.Now().Add(2 * testkit.Patience))
					err = greet(conn, i, request, response)
				}
				if err != nil {
					errs <- fmt.Errorf("session %d: %w", i, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range dialing {
		if err := <-errs; err != nil {
			t.Fatalf("%v; the server says: %s", err, server.Log.String())
		}
	}
	if n := testkit.Descriptors(server.Process.Pid); n < sessions {
		t.Errorf("the server holds %d descriptors", n)
	}
	t.Logf("%d bytes of the server's memory a session", (testkit.ResidentBytes(server.Process.Pid)-empty)/sessions)

	// All ask at once.
	for i, conn := range conns {
		if _, err := conn.Write(wrap(i, request)); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	for i, conn := range conns {
		if err := expectAs(conn, i, response); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
}

// isSocket reports whether session i is a WebSocket.
func isSocket(i int) bool { return i%10 == 0 }

// greet makes session i's handshake, if it has one, and asks for the first time.
func greet(conn net.Conn, i int, request, response []byte) error {
	if isSocket(i) {
		if _, err := io.WriteString(conn, upgradeRequest); err != nil {
			return err
		}
		if err := readUpgrade(conn); err != nil {
			return err
		}
	}
	if _, err := conn.Write(wrap(i, request)); err != nil {
		return err
	}
	return expectAs(conn, i, response)
}

// readUpgrade reads a positive answer to upgradeRequest and nothing after it.
func readUpgrade(conn net.Conn) error {
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), "\r\n\r\n"); {
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		got = append(got, b...)
	}
	if !strings.HasPrefix(string(got), "HTTP/1.1 101 ") {
		return fmt.Errorf("the upgrade was answered: %q", got)
	}
	return nil
}

// wrap is packet as session i sends it.
func wrap(i int, packet []byte) []byte {
	if isSocket(i) {
		return packWS(nil, packet)
	}
	return packet
}

// expectAs reads the packet that session i must get.
func expectAs(conn net.Conn, i int, packet []byte) error {
	want := packet
	if isSocket(i) {
		want = append([]byte{0x82, byte(len(packet))}, packet...)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("got % x, want % x", got, want)
	}
	return nil
}
