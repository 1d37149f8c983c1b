package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A fleet is many client connections, each nothing but a blocking descriptor:
// no goroutine, no buffer. It is used by one goroutine at a time.
type fleet struct {
	wire    wire
	target  unix.SockaddrInet4
	sources []netip.Addr // each may carry sourceShare connections; none: the system chooses
	reset   bool         // closing sends a reset, and leaves nothing in TIME_WAIT
	first   uint32       // number of the first session

	fds  []int
	made int    // connections ever, for the choice of their source
	turn uint32 // of the last probe
	buf  []byte
}

const (
	// batch is how many connections are opened or probed before the first one's
	// answer is read, so that client and server work at the same time.
	batch = 128

	// sourceShare is how many connections a source address carries. The system
	// finds free ports quickly in the first half of its 28,000 only.
	sourceShare = 8000

	replySeconds = 20 // for any single reply
	maxUpgrade   = 4 << 10
)

// open connects n more sessions, and has each of them verified by a probe.
func (f *fleet) open(n int) error {
	for n > 0 {
		some := min(n, batch)
		from := len(f.fds)
		for range some {
			fd, err := f.connect()
			if err != nil {
				return fmt.Errorf("session %d: %w", len(f.fds), err)
			}
			f.fds = append(f.fds, fd)
		}
		if f.wire.transport == "ws" {
			if err := f.upgrade(from, len(f.fds)); err != nil {
				return err
			}
		}
		f.turn++
		if err := f.probeSome(from, len(f.fds)); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// connect opens one blocking socket to the target.
func (f *fleet) connect() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := f.prepare(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	err = unix.Connect(fd, &f.target)
	if err == unix.EINTR {
		err = awaitConnect(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// awaitConnect waits for a connect that a signal interrupted. The connect continues, and
// must not be called again (connect(2), EINTR).
func awaitConnect(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, replySeconds*1000)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return unix.ETIMEDOUT
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}

func (f *fleet) prepare(fd int) error {
	if f.reset {
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return fmt.Errorf("SO_LINGER: %w", err)
		}
	}
	timeout := unix.Timeval{Sec: replySeconds}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("SO_RCVTIMEO: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return fmt.Errorf("SO_SNDTIMEO: %w", err)
	}
	if len(f.sources) == 0 {
		return nil
	}
	// The port is picked when connecting, by the pair of addresses, so that
	// each pair has all of them.
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	source := f.sources[f.made/sourceShare%len(f.sources)]
	f.made++
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}); err != nil {
		return fmt.Errorf("bind to %v: %w", source, err)
	}
	return nil
}

// upgrade makes the opening handshake of sessions from to to.
func (f *fleet) upgrade(from, to int) error {
	request := f.wire.upgrade()
	for i := from; i < to; i++ {
		if err := writeAll(f.fds[i], request); err != nil {
			return fmt.Errorf("session %d: upgrade: %w", i, err)
		}
	}
	for i := from; i < to; i++ {
		if err := f.readUpgrade(f.fds[i]); err != nil {
			return fmt.Errorf("session %d: upgrade: %w", i, err)
		}
	}
	return nil
}

// readUpgrade reads the server's 101. It sends nothing after that before the first
// request.
func (f *fleet) readUpgrade(fd int) error {
	buf := f.buffer(maxUpgrade)
	for n := 0; ; {
		got, err := readSome(fd, buf[n:])
		if err != nil {
			return err
		}
		n += got
		switch {
		case !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")):
			if n == len(buf) {
				return fmt.Errorf("an endless answer: %.60q", buf)
			}
		case !bytes.HasPrefix(buf, []byte("HTTP/1.1 101 ")):
			return fmt.Errorf("answered %.60q", buf[:n])
		default:
			return nil
		}
	}
}

// probe asks every session of the fleet once more, and verifies its reply.
func (f *fleet) probe(from, to int) error {
	for ; from < to; from += batch {
		if err := f.probeSome(from, min(from+batch, to)); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) probeSome(from, to int) error {
	for i := from; i < to; i++ {
		request, _ := f.wire.probe(f.first+uint32(i), f.turn)
		if err := writeAll(f.fds[i], request); err != nil {
			return fmt.Errorf("session %d: request %d: %w", i, f.turn, err)
		}
	}
	for i := from; i < to; i++ {
		_, reply := f.wire.probe(f.first+uint32(i), f.turn)
		got := f.buffer(len(reply))
		for n := 0; n < len(got); {
			more, err := readSome(f.fds[i], got[n:])
			if err != nil {
				return fmt.Errorf("session %d: reply %d: %w", i, f.turn, err)
			}
			n += more
		}
		if !bytes.Equal(got, reply) {
			return fmt.Errorf("session %d: reply %d is [% x], want [% x]", i, f.turn, got, reply)
		}
	}
	return nil
}

func (f *fleet) buffer(n int) []byte {
	if len(f.buf) < n {
		f.buf = make([]byte, max(n, maxUpgrade))
	}
	return f.buf[:n]
}

// close ends all sessions. The fleet can open new ones.
func (f *fleet) close() {
	for _, fd := range f.fds {
		unix.Close(fd)
	}
	f.fds = f.fds[:0]
}

// readSome reads at least a byte.
func readSome(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, fmt.Errorf("no reply within %d s", replySeconds)
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.ErrUnexpectedEOF
		default:
			return n, nil
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// newFleet returns a fleet without sessions.
func newFleet(transport string, target netip.AddrPort, sources []netip.Addr) *fleet {
	return &fleet{
		wire:    wire{transport, target.String()},
		target:  unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()},
		sources: sources,
		reset:   true,
	}
}

// fleetSettings are a fleet child's: TCP sessions to one server.
type fleetSettings struct {
	Target  netip.AddrPort `json:"target"`
	Sources []netip.Addr   `json:"sources"`
	First   uint32         `json:"first"`
}

// fleetArgs name a part of a fleet.
type fleetArgs struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// fleetRole is a process with many client sessions. Every command returns their
// number. Commands are short, so that the end of the parent is noticed soon.
func fleetRole(raw json.RawMessage) (ready any, actions map[string]action, end func(), err error) {
	var set fleetSettings
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, nil, nil, err
	}
	f := newFleet("tcp", set.Target, set.Sources)
	f.first = set.First
	actions = map[string]action{
		"open": act(func(_ context.Context, n int) (any, error) {
			err := f.open(n)
			return len(f.fds), err
		}),
		"probe": act(func(_ context.Context, args fleetArgs) (any, error) {
			if args.From == 0 {
				f.turn++
			}
			return len(f.fds), f.probe(args.From, min(args.To, len(f.fds)))
		}),
		"close": act(func(context.Context, struct{}) (any, error) {
			f.close()
			return len(f.fds), nil
		}),
	}
	return 0, actions, f.close, nil
}
