package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// Adopt serves a listening stream socket, TCP or Unix, that another process opened:
// systemd (ActivationFiles), or the predecessor of this process (Listener.File).
// Otherwise it is like Listen; transports such as QUIC bind a socket of their own, on
// the TCP socket's address. The descriptor is duplicated: the caller keeps file and
// closes it. A datagram socket is refused with errors.ErrUnsupported. Config.Socket is
// applied except ReusePort. A Unix socket's file is not unlinked on closing; see
// SetUnlinkOnClose.
func (e *Engine) Adopt(file *os.File, protocols ...Protocol) (*Listener, error) {
	if file == nil {
		return nil, fmt.Errorf("engine: adopt: %w", os.ErrInvalid)
	}
	return e.listen(&ListenConfig{Addr: file.Name()}, file, protocols)
}

func (l *Listener) adoptStream(opts *reactor.Options, transports []Transport) error {
	// SyscallConn and not Fd, which would make some files blocking.
	raw, err := l.inherited.SyscallConn()
	if err != nil {
		return err
	}
	var a reactor.Adopted
	var adoptErr error
	if err := raw.Control(func(fd uintptr) { a, adoptErr = reactor.Adopt(int(fd), opts) }); err != nil {
		return err
	}
	if adoptErr != nil {
		return adoptErr
	}
	l.conn.FD, l.addr = a.FD, a.Local
	if !a.Unix {
		return l.checkTCP()
	}
	l.name = unixPrefix + a.Name
	for _, sp := range l.streams {
		sp.stats = l.engine.stats.transport(transportName(sp.protocol, l.name))
	}
	return checkUnix(transports)
}

// File returns a duplicate of the listening stream socket, for a child process to Adopt;
// the caller closes it. It is close-on-exec, which os/exec clears for ExtraFiles, and
// non-blocking, as this process needs it. While two processes have the socket, each
// connection goes to the first that accepts it; none is refused until both have closed
// the socket. Errors: ErrClosed, and errors.ErrUnsupported for a listener without a
// stream protocol.
func (l *Listener) File() (*os.File, error) {
	if len(l.streams) == 0 {
		return nil, fmt.Errorf("engine: a listener without a stream socket: %w", errors.ErrUnsupported)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn.FD < 0 || l.closed.Load() {
		return nil, ErrClosed
	}
	fd, err := reactor.Dup(l.conn.FD)
	if err != nil {
		return nil, fmt.Errorf("engine: listener %s: %w", l, err)
	}
	return os.NewFile(uintptr(fd), l.String()), nil
}

// SetUnlinkOnClose sets whether closing the listener removes its Unix socket file.
// Default: true if this engine bound the socket, false if it adopted it. A process that
// passes its socket to another one sets false; the other one sets true. A file that has
// been replaced since is never removed. On other listeners it does nothing. It fails if
// the file cannot be examined (lstat(2)).
func (l *Listener) SetUnlinkOnClose(unlink bool) error {
	path := l.Path()
	if path == "" {
		return nil
	}
	var file socketFile
	if unlink {
		var err error
		if file, err = statSocket(path); err != nil {
			return fmt.Errorf("engine: listener %s: %w", l, err)
		}
	}
	l.mu.Lock()
	l.file = file
	l.mu.Unlock()
	return nil
}

// ReleaseTransports ends the sessions of the listener's transports (QUIC) as
// Engine.Shutdown would, and then closes their sockets, so that another process can
// bind them. Sessions of the stream socket continue. It blocks until that is done: do
// not call it from a callback. If ctx ends first, the remaining sessions are dropped,
// and ctx's error is returned.
func (l *Listener) ReleaseTransports(ctx context.Context) error {
	for _, ep := range l.endpoints {
		ep.StopAccepting()
	}
	told := make(map[ID]bool)
	for pause := time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 20*time.Millisecond) {
		if l.endLinks(func(s *Session) {
			if !told[s.id] {
				told[s.id] = true
				s.conn.drain()
			}
		}) == 0 {
			break
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
	err := ctx.Err()
	if err != nil {
		l.endLinks(func(s *Session) { s.conn.close(ErrShutdown, true) })
	}
	l.closeEndpoints()
	return err
}

// endLinks calls end for each session of the listener's transports, and returns
// how many there are.
func (l *Listener) endLinks(end func(s *Session)) (n int) {
	if len(l.endpoints) == 0 {
		return 0
	}
	for s := range l.engine.all() {
		if _, ok := s.conn.(*linkConn); ok && s.listener == l {
			n++
			end(s)
		}
	}
	return n
}
