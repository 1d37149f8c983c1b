package torture_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// cycle makes n connections and ends them in different ways, spread over the load.
// When the load is over, the remaining connections follow as fast as possible.
func (r *run) cycle(n int) {
	var begun atomic.Int64
	pace := r.scale.load * cyclers / time.Duration(n) * 3 / 4
	for i := range cyclers {
		c := chooser("cycle", i)
		r.peers.Go(func() {
			for begun.Add(1) <= int64(n) {
				r.connectAndLeave(c)
				r.cycled.Add(1)
				r.nap(pace)
			}
		})
	}
}

// connectAndLeave is one short connection. Most end by a reset, which leaves no
// port in TIME_WAIT.
func (r *run) connectAndLeave(c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer conn.Close()
	_ = conn.SetLinger(0)
	switch c.IntN(8) {
	case 0: // a reset at once
	case 1: // an orderly end at once
		_ = conn.CloseWrite()
		r.mustEnd(conn, "an empty connection")
	case 2: // the start of something
		b := clientHello()
		_, _ = conn.Write(b[:c.IntN(len(b))])
	case 3: // one request, answered after this side has ended its half
		packet := request(1, noise(c, c.IntN(3000)))
		_, _ = conn.Write(packet)
		_ = conn.CloseWrite()
		if got := r.mustEnd(conn, "a cycle"); len(got) != len(packet) {
			r.failf("a cycle: %d bytes of the answer, not %d", len(got), len(packet))
		}
	case 4, 5: // a WebSocket, ended by a Close frame or not
		if r.upgrade(conn) && c.IntN(2) == 0 {
			_, _ = conn.Write(frame(0x88, []byte{3, 232}))
			if got := r.mustEnd(conn, "a WebSocket's cycle"); len(got) == 0 || got[0] != 0x88 {
				r.failf("a WebSocket's cycle: the Close frame was answered by % x", got)
			}
		}
	default: // one request, answered, and a reset
		packet := request(1, noise(c, c.IntN(3000)))
		_, _ = conn.Write(packet)
		if _, err := io.ReadFull(conn, packet); err != nil {
			r.failf("a cycle: %v", err)
		}
	}
}

// holdHandshakes begins n handshakes and finishes none. If wait is set, the server must
// end them all; otherwise this side ends them when all have begun.
func (r *run) holdHandshakes(c *rand.Rand, n int, wait bool) {
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, conn := range conns {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	starts := [][]byte{[]byte("G"), []byte(upgradeRequest[:90]), clientHello()[:20], clientHello(), {0x16}}
	for range n {
		conn := r.connect(c)
		if conn == nil {
			return
		}
		conns = append(conns, conn)
		_, _ = conn.Write(starts[c.IntN(len(starts))])
	}
	if !wait {
		return
	}
	r.halfOpened.Add(int64(n))
	// A few readers see all ends. A reader waits for one connection after the other, and
	// the ends that arrive meanwhile stay in the socket.
	var readers sync.WaitGroup
	for part := range 8 {
		readers.Go(func() {
			for i := part; i < len(conns); i += 8 {
				_ = conns[i].SetReadDeadline(time.Now().Add(testkit.Patience))
				if _, err := io.Copy(io.Discard, conns[i]); errors.Is(err, os.ErrDeadlineExceeded) {
					r.failf("a half-open handshake isn't ended")
				}
			}
		})
	}
	readers.Wait()
}
