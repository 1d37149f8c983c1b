package torture_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// fault is the effect of a link on the bytes of one direction.
type fault uint8

// The faults. Those up to coalesce lose nothing: a conversation over them
// must be complete.
const (
	clean     fault = iota // nothing
	delay                  // holds pieces back
	trickle                // lets them through one byte at a time
	stall                  // stops reading for a while
	split                  // cuts them at random places
	coalesce               // waits for more and passes it in one piece
	cut                    // closes both ends in the middle
	reset                  // resets both ends in the middle
	halfClose              // ends this direction and goes on with the other
	never                  // stops reading for good and never finishes
	faults
)

var faultNames = [faults]string{"clean", "delay", "trickle", "stall", "split", "coalesce",
	"cut", "reset", "half-close", "never"}

// lossy reports whether a conversation over f may end early.
func (f fault) lossy() bool { return f > coalesce }

// plan is the fault of one direction and the position of its start.
type plan struct {
	fault fault
	at    int // bytes that pass before
	seed  uint64
}

// newPlan picks a fault. It begins in the first bytes as often as later on,
// because handshakes and headers are there.
func newPlan(r *rand.Rand, f fault) plan {
	at := r.IntN(1 << r.IntN(18))
	return plan{fault: f, at: at, seed: r.Uint64()}
}

// link is a proxy for one connection. It listens on an address of its own, so
// its peer knows its faults.
type link struct {
	run      *run
	up, down plan // from the client, and to it
	target   string
	listener net.Listener

	gone  chan struct{} // closed when the link ends or must end
	end   sync.Once
	work  sync.WaitGroup
	mu    sync.Mutex // guards conns
	conns []*net.TCPConn
}

// newLink makes a link to target that serves one connection.
func newLink(r *run, target string, up, down plan) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{run: r, up: up, down: down, target: target, listener: l, gone: make(chan struct{})}
	k.work.Go(k.serve)
	return k, nil
}

func (k *link) addr() string { return k.listener.Addr().String() }

// close ends the link and waits for its goroutines.
func (k *link) close() {
	k.finish()
	k.listener.Close()
	k.work.Wait()
}

// finish closes both connections at any time.
func (k *link) finish() {
	k.end.Do(func() {
		close(k.gone)
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, c := range k.conns {
			c.Close()
		}
	})
}

// keep records a connection that finish closes. It returns false if the link has ended.
func (k *link) keep(c *net.TCPConn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.gone:
		c.Close()
		return false
	default:
		k.conns = append(k.conns, c)
		return true
	}
}

// serve takes the one connection, and carries its bytes until it has ended.
func (k *link) serve() {
	near, err := k.listener.Accept()
	k.listener.Close()
	if err != nil {
		return
	}
	if !k.keep(near.(*net.TCPConn)) {
		return
	}
	far, err := testkit.DialFrom(int(k.up.seed), k.target)
	if err != nil {
		k.run.failf("the server can't be reached: %v", err)
		k.finish()
		return
	}
	if !k.keep(far) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { k.pump(far, near.(*net.TCPConn), k.up) })
	pumps.Go(func() { k.pump(near.(*net.TCPConn), far, k.down) })
	pumps.Wait()
	k.finish()
}

// pump carries the bytes of one direction.
func (k *link) pump(dst, src *net.TCPConn, p plan) {
	f := flow{link: k, dst: dst, src: src, plan: p, r: rand.New(rand.NewPCG(p.seed, 1)), buf: make([]byte, 32<<10)}
	for {
		n, err := src.Read(f.buf)
		if n > 0 && !f.pass(f.buf[:n]) {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = dst.CloseWrite()
			return
		default:
			// A reset is passed on as a reset, and a flow that has stopped for ever is released.
			_ = dst.SetLinger(0)
			k.finish()
			return
		}
	}
}

// flow is one direction of a running link.
type flow struct {
	link     *link
	dst, src *net.TCPConn
	plan     plan
	r        *rand.Rand
	buf      []byte
	passed   int
	counted  bool
	effort   int // the rest of a fault that would take too long
}

// pass writes b according to the plan. It returns false when the direction has ended.
func (f *flow) pass(b []byte) bool {
	if before := f.plan.at - f.passed; before > 0 {
		n := min(before, len(b))
		if !f.write(b[:n]) {
			return false
		}
		if b = b[n:]; len(b) == 0 {
			return true
		}
	}
	if !f.counted && f.plan.fault != clean {
		f.counted, f.effort = true, 2000
		f.link.run.injected[f.plan.fault].Add(1)
	}
	switch f.plan.fault {
	case delay:
		f.effort--
		return (f.effort < 1900 || f.pause(time.Duration(f.r.IntN(8))*time.Millisecond)) && f.write(b)
	case trickle:
		return f.trickle(b)
	case split:
		return f.split(b)
	case stall:
		f.plan.fault = clean
		return f.pause(time.Duration(50+f.r.IntN(550))*time.Millisecond) && f.write(b)
	case coalesce:
		return f.coalesce(b)
	case cut, reset, halfClose, never:
		return f.stop(b)
	default:
		return f.write(b)
	}
}

// stop ends the direction for good.
func (f *flow) stop(b []byte) bool {
	k := f.link
	switch f.plan.fault {
	case reset:
		_, _ = f.dst.SetLinger(0), f.src.SetLinger(0)
		k.finish()
	case cut:
		k.finish()
	case halfClose:
		_ = f.dst.CloseWrite()
		// Further input is read, so that no reset destroys the other direction.
		_, _ = io.Copy(io.Discard, f.src)
	case never:
		<-k.gone
	}
	return false
}

func (f *flow) trickle(b []byte) bool {
	for len(b) > 0 && f.effort > 0 {
		if f.effort--; f.effort%50 == 0 && !f.pause(time.Millisecond) {
			return false
		}
		if !f.write(b[:1]) {
			return false
		}
		b = b[1:]
	}
	return f.write(b)
}

func (f *flow) split(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), 1+f.r.IntN(1<<f.r.IntN(14)))
		if !f.write(b[:n]) {
			return false
		}
		if b = b[n:]; f.r.IntN(32) == 0 && !f.pause(time.Millisecond) {
			return false
		}
	}
	return true
}

// coalesce collects the bytes that follow b within a few milliseconds.
func (f *flow) coalesce(b []byte) bool {
	all := append(make([]byte, 0, 64<<10), b...)
	_ = f.src.SetReadDeadline(time.Now().Add(time.Duration(1+f.r.IntN(4)) * time.Millisecond))
	for len(all) < cap(all) {
		n, err := f.src.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		if err != nil {
			break // a timeout; an end will be read again
		}
	}
	_ = f.src.SetReadDeadline(time.Time{})
	return f.write(all)
}

// pause waits. It returns false if the link ends meanwhile.
func (f *flow) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.link.gone:
		return false
	}
}

func (f *flow) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n, err := f.dst.Write(b)
	f.passed += n
	if err != nil {
		if !errors.Is(err, os.ErrClosed) {
			_ = f.src.SetLinger(0)
		}
		f.link.finish()
	}
	return err == nil
}
