package engine

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// tlsLayer is the TLS of one session: crypto/tls over a connection that exists only in
// memory. The loop puts ciphertext in and reads plaintext. The goroutine that flushes the
// session writes plaintext and takes ciphertext out.
type tlsLayer struct {
	sock *socketConn
	conn *tls.Conn
	real net.Conn // of a dialed session until its handshake is done; then nil

	// Inbound. Guarded by mu during an accepted session's handshake, while the loop feeds
	// and the handshake's goroutine reads; then the loop's.
	mu        sync.Mutex
	more      *sync.Cond // of mu: in, eof or closed changed; nil after the handshake
	in        []byte     // ciphertext not yet read by conn: in held, or the core's buffer
	held      *block     // the memory of in, if it is kept beyond this read
	eof       bool       // the peer ended its side during the handshake
	closed    bool       // the session is gone
	inputFull bool       // the loop stopped reading because in was large

	// Owned by the loop.
	leftover bool  // conn may return more plaintext without more ciphertext
	failure  error // of the handshake; set by its goroutine before it triggers the loop

	// Outbound. Guarded by the session's out.mu.
	established bool // plaintext may be encrypted
	notified    bool // close_notify was sent or queued
	sealed      blockList
}

// maxHandshakeInput is how many bytes may wait for a handshake before the loop
// stops reading its socket.
const maxHandshakeInput = 64 << 10

// errPipeEmpty means that no ciphertext is available yet. crypto/tls does not keep errors
// that are Temporary, and continues at any byte.
var errPipeEmpty net.Error = pipeEmpty{}

type pipeEmpty struct{}

func (pipeEmpty) Error() string   { return "engine: no more ciphertext yet" }
func (pipeEmpty) Timeout() bool   { return true }
func (pipeEmpty) Temporary() bool { return true }

// tlsPipe is a tlsLayer as the net.Conn under its tls.Conn.
type tlsPipe tlsLayer

var _ net.Conn = (*tlsPipe)(nil)

// Read reads ciphertext. During the handshake it waits for it.
func (p *tlsPipe) Read(b []byte) (int, error) {
	if p.real != nil {
		return p.real.Read(b)
	}
	if p.more != nil {
		return p.await(b)
	}
	if len(p.in) == 0 {
		return 0, errPipeEmpty
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *tlsPipe) await(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.in) == 0 && !p.eof && !p.closed {
		if p.inputFull {
			p.inputFull = false
			_ = p.sock.core().loop.Trigger(resumeTask, p.sock)
		}
		p.more.Wait()
	}
	switch {
	case p.closed:
		return 0, net.ErrClosed
	case len(p.in) == 0:
		return 0, io.EOF
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	if len(p.in) == 0 {
		(*tlsLayer)(p).dropHeld()
	}
	return n, nil
}

// Write queues ciphertext of crypto/tls, in the order of the records: crypto/tls calls it
// under a lock of its own. It never returns an error, because crypto/tls would return that
// error from all later calls.
func (p *tlsPipe) Write(b []byte) (int, error) {
	if p.real != nil {
		return p.real.Write(b)
	}
	s := p.sock.session
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.phase >= phaseDrained {
		return len(b), nil // it cannot be sent any more
	}
	(*tlsLayer)(p).queueLocked(b)
	if !p.established {
		// Only the handshake writes now, on its own goroutine. Later a flush here would
		// deadlock: it encrypts, and crypto/tls's lock is held.
		p.sock.kickLocked()
	}
	return len(b), nil
}

// queueLocked appends a copy of b to the ciphertext that waits to be written.
func (t *tlsLayer) queueLocked(b []byte) {
	tail := t.sealed.tail
	if tail == nil || tail.space() < len(b) {
		tail = newBlock(t.sealed.nextSize(len(b)))
		t.sealed.push(tail)
	}
	tail.b = append(tail.b, b...)
	t.sock.session.out.pending += len(b)
}

// feed appends a copy of b to the input of the handshake. On the loop.
func (t *tlsLayer) feed(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.held; h == nil || h.space() < len(b) {
		next := newBlock(len(t.in) + len(b))
		next.b = append(next.b, t.in...)
		t.dropHeld()
		t.held = next
		t.in = next.b
	}
	t.held.b = append(t.held.b, b...)
	t.in = t.held.b[len(t.held.b)-len(t.in)-len(b):]
	t.more.Signal()
	t.inputFull = len(t.in) >= maxHandshakeInput
}

// full reports whether so much input waits for the handshake that the loop must not read.
// The handshake's goroutine resumes reading.
func (t *tlsLayer) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inputFull
}

// endInput signals to the handshake that the peer sends no more. On the loop.
func (t *tlsLayer) endInput() {
	t.mu.Lock()
	t.eof = true
	t.more.Signal()
	t.mu.Unlock()
}

// settleInput handles the ciphertext that conn did not read. If the input is done, it is
// dropped. If held is set, it is kept in memory of the session's own. On the loop.
func (t *tlsLayer) settleInput(done, held bool) {
	t.leftover = !done
	switch {
	case done || len(t.in) == 0:
		t.dropHeld()
	case held && t.held == nil:
		t.held = blockOf(t.in)
		t.in = t.held.b
	}
}

func (t *tlsLayer) dropHeld() {
	t.in = nil
	if t.held != nil {
		t.held.free()
		t.held = nil
	}
}

// release ends the handshake's goroutine, if it still runs, and frees every buffer. On the
// loop, when no goroutine writes.
func (t *tlsLayer) release() {
	memory.add(-tlsMemory)
	t.mu.Lock()
	t.closed = true
	t.dropHeld()
	if t.more != nil {
		t.more.Signal()
	}
	t.mu.Unlock()
	out := &t.sock.session.out
	out.mu.Lock()
	out.pending -= freeChain(t.sealed.take())
	out.mu.Unlock()
}

// Close does nothing: the session closes the socket.
func (p *tlsPipe) Close() error { return nil }

// LocalAddr returns the session's local address.
func (p *tlsPipe) LocalAddr() net.Addr {
	if p.real != nil {
		return p.real.LocalAddr()
	}
	return net.TCPAddrFromAddrPort(p.sock.localAddr())
}

// RemoteAddr returns the session's remote address.
func (p *tlsPipe) RemoteAddr() net.Addr {
	if p.real != nil {
		return p.real.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(p.sock.session.remote)
}

// SetDeadline sets the deadline of a dialed session's socket during its handshake. Later
// it does nothing: the session has its own deadlines, and no call here waits.
func (p *tlsPipe) SetDeadline(t time.Time) error {
	if p.real != nil {
		return p.real.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline is as SetDeadline.
func (p *tlsPipe) SetReadDeadline(t time.Time) error {
	if p.real != nil {
		return p.real.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline is as SetDeadline.
func (p *tlsPipe) SetWriteDeadline(t time.Time) error {
	if p.real != nil {
		return p.real.SetWriteDeadline(t)
	}
	return nil
}
