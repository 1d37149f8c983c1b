package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/framing"
)

const (
	slowMessage = 4 << 10 // bytes of payload of a slow reader's requests
	slowRead    = 1 << 10 // bytes that it reads at a time
	slowPause   = 50 * time.Millisecond
	slowBuffer  = 64 << 10 // bytes of its receive buffer, so that the system doesn't read for it

	stallWindow = 250 * time.Millisecond
	stallTime   = 15 * time.Second // after which the server must have stopped reading
	stallBytes  = 64 << 10         // that a stalled session may send within a stallWindow
)

// slowReaders are sessions that ask without end and hardly read.
type slowReaders struct {
	conns    []*net.TCPConn
	sent     atomic.Int64 // bytes
	verified atomic.Int64 // bytes of replies
	ending   atomic.Bool
	running  sync.WaitGroup
	stop     func() error // ends them; later calls return the same first failure

	mu      sync.Mutex // guards failure
	failure error
}

// startSlowReaders connects n of them.
func startSlowReaders(ctx context.Context, addr netip.AddrPort, n int) (*slowReaders, error) {
	r := &slowReaders{}
	r.stop = sync.OnceValue(r.end)
	for i := range n {
		conn, err := dialSlow(ctx, addr)
		if err != nil {
			return nil, errors.Join(err, r.stop())
		}
		r.conns = append(r.conns, conn)
		r.running.Go(func() { r.note(i, r.ask(conn, i)) })
		r.running.Go(func() { r.note(i, r.crawl(conn, i)) })
	}
	return r, nil
}

// dialSlow connects with a small receive buffer, and a reset at the end, since many
// bytes are in flight then.
func dialSlow(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if err := errors.Join(tcp.SetReadBuffer(slowBuffer), tcp.SetLinger(0)); err != nil {
		tcp.Close()
		return nil, err
	}
	return tcp, nil
}

// slowPacket is message number k of session i; its reply differs in the type.
func slowPacket(i int, k uint32, kind framing.Type) []byte {
	payload := bytes.Repeat([]byte{byte(i), byte(k), byte(k >> 8), byte(k >> 16)}, slowMessage/4)
	return mustPacket(&framing.Message{Type: kind, ID: k, Payload: payload})
}

// ask writes requests for as long as the server takes them.
func (r *slowReaders) ask(conn net.Conn, i int) error {
	for k := uint32(1); ; k++ {
		n, err := conn.Write(slowPacket(i, k, framing.Request))
		r.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// crawl reads replies, a little at a time, and verifies them.
func (r *slowReaders) crawl(conn net.Conn, i int) error {
	var due []byte
	buf := make([]byte, slowRead)
	for k := uint32(0); !r.ending.Load(); time.Sleep(slowPause) {
		for len(due) < len(buf) {
			k++
			due = append(due, slowPacket(i, k, framing.Response)...)
		}
		n, err := io.ReadAtLeast(conn, buf, 1)
		if err != nil {
			return err
		}
		if !bytes.Equal(buf[:n], due[:n]) {
			return fmt.Errorf("around reply %d: got [% x], want [% x]", k, buf[:min(n, 32)], due[:min(n, 32)])
		}
		due = due[n:]
		r.verified.Add(int64(n))
	}
	return nil
}

// note keeps the first failure that end didn't cause.
func (r *slowReaders) note(i int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.ending.Load() && r.failure == nil {
		r.failure = fmt.Errorf("slow reader %d: %w", i, err)
	}
}

// failed is the failure so far.
func (r *slowReaders) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// awaitStall waits until the server has nearly stopped reading from them. It fails if
// the server continues, because it then stores their replies without a bound.
func (r *slowReaders) awaitStall(ctx context.Context) error {
	if len(r.conns) == 0 {
		return nil
	}
	most := int64(len(r.conns)) * stallBytes
	for start, last := time.Now(), int64(0); ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stallWindow):
		}
		if err := r.failed(); err != nil {
			return err
		}
		now := r.sent.Load()
		if now > 0 && now-last <= most {
			return nil
		}
		if time.Since(start) > stallTime {
			return fmt.Errorf("the server still reads from slow readers after %v: %d bytes so far", stallTime, now)
		}
		last = now
	}
}

// end closes the sessions, and returns an earlier error.
func (r *slowReaders) end() error {
	r.mu.Lock()
	r.ending.Store(true)
	r.mu.Unlock()
	for _, conn := range r.conns {
		conn.Close()
	}
	r.running.Wait()
	return r.failed()
}
