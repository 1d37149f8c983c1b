package torture_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// These tests check the instruments of the torture chamber.

func TestParseNoticesEveryWrongByte(t *testing.T) {
	const sender, size = 77, 333
	good := appendPayload(nil, sender, 1, opEcho, 5, size)
	if h, err := parse(good); err != nil || h != (head{sender: sender, seq: 5, lane: 1}) || len(good) != size {
		t.Fatal(h, err, len(good))
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		h, err := parse(bad)
		// The server's own sequence number is compared with seq later.
		if err == nil && h.server == 0 && h.op == opEcho {
			t.Errorf("a wrong byte at %d isn't noticed", i)
		}
	}
}

func TestSequenceNoticesWhatIsLostOrComesAgain(t *testing.T) {
	var q sequence
	for _, c := range []struct {
		seq, lost uint32
		again     bool
	}{{0, 0, false}, {1, 0, false}, {1, 0, true}, {4, 2, false}, {0, 0, true}, {5, 0, false}} {
		if lost, again := q.take(c.seq); lost != c.lost || again != c.again {
			t.Errorf("%+v: lost %d, again %v", c, lost, again)
		}
	}
}

// TestLinkFaults checks the effect of each fault in each direction: a lossless fault
// loses nothing, and the others leave a prefix.
func TestLinkFaults(t *testing.T) {
	for f := range faults {
		t.Run(faultNames[f], func(t *testing.T) {
			r := &run{t: t}
			up, down := carry(t, r, plan{fault: f, at: 1000, seed: 3}, plan{seed: 4})
			judgeLink(t, f, "up", up)
			if f == halfClose && len(down) != linkBytes {
				t.Errorf("half-closed, and %d bytes came back", len(down))
			}
			_, down = carry(t, r, plan{seed: 5}, plan{fault: f, at: 1000, seed: 6})
			judgeLink(t, f, "down", down)
			if n := r.injected[f].Load(); f != clean && n != 2 {
				t.Errorf("%d faults counted", n)
			}
		})
	}
}

const linkBytes = 200_000

// linkStream is the data that each side of a link sends.
var linkStream = noise(rand.New(rand.NewPCG(1, 1)), linkBytes)

func judgeLink(t *testing.T, f fault, direction string, got []byte) {
	t.Helper()
	if !bytes.HasPrefix(linkStream, got) {
		t.Errorf("%s: %d bytes, and not those that were sent", direction, len(got))
	}
	if whole := len(got) == linkBytes; whole == f.lossy() {
		t.Errorf("%s: %d bytes of %d", direction, len(got), linkBytes)
	}
}

// carry sends linkStream both ways over a link, and returns the bytes that arrived.
func carry(t *testing.T, r *run, up, down plan) (gotUp, gotDown []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k, err := newLink(r, l.Addr().String(), up, down)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	near, err := net.Dial("tcp", k.addr())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	var arrived atomic.Int64
	exchange := func(c net.Conn) <-chan []byte {
		done := make(chan []byte, 1)
		go func() {
			_, _ = c.Write(linkStream)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		go func() {
			b, err := io.ReadAll(counted{c, &arrived})
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("no end came")
			}
			done <- b
		}()
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		return done
	}
	toFar, toNear := exchange(far), exchange(near)
	if up.fault == never || down.fault == never {
		// Only this side can end it when the other direction has ended.
		testkit.Poll(testkit.Patience, func() bool { return arrived.Load() >= linkBytes+1000 })
		k.finish()
	}
	return <-toFar, <-toNear
}

// counted counts the bytes that are read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}
