package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// origin is where a listener's stream socket comes from and what it leaves
// behind.
type origin struct {
	name      string         // "unix:" and its name, for a Unix socket
	inherited *os.File       // adopted instead of bound; until Adopt returns
	proxy     *ProxyProtocol // nil unless connections may begin with its header
	done      chan struct{}  // closed when no more is accepted
	doneOnce  sync.Once

	mu       sync.Mutex // guards closing the descriptor and what follows
	file     socketFile
	released sync.Once // closes the transports' sockets
}

// Adopt serves a listening stream socket, TCP or Unix, that somebody else
// opened: systemd (ActivationFiles), or the process before this one
// (Listener.File). It is Listen otherwise, also in that transports such as QUIC
// bind a socket of their own, on the TCP socket's address. The descriptor is
// duplicated: file stays the caller's, to close. A datagram socket is refused with
// errors.ErrUnsupported. Config.Socket is applied but for ReusePort. A Unix
// socket's file is not unlinked on closing; see SetUnlinkOnClose.
func (e *Engine) Adopt(file *os.File, protocols ...Protocol) (*Listener, error) {
	if file == nil {
		return nil, fmt.Errorf("engine: adopt: %w", os.ErrInvalid)
	}
	return e.listen(file.Name(), file, protocols)
}

// openStream opens the listener's stream socket, or adopts it.
func (l *Listener) openStream(addr string, transports []Transport) (err error) {
	opts := l.engine.cfg.Socket.system()
	if l.inherited != nil {
		return l.adoptStream(opts, transports)
	}
	name, ok := unixName(addr)
	if !ok {
		l.conn.FD, l.addr, err = reactor.ListenTCP(addr, opts)
		return err
	}
	l.name = addr
	l.conn.FD, l.file, err = listenUnix(name, opts)
	return err
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

// checkBind reports what can't be served at addr.
func (l *Listener) checkBind(addr string, transports []Transport) error {
	if l.proxy != nil && len(l.streams) == 0 {
		return errors.New("ProxyProtocol without a stream protocol")
	}
	if _, ok := unixName(addr); ok {
		return checkUnix(transports)
	}
	if l.inherited == nil {
		return l.checkTCP()
	}
	if len(l.streams) == 0 {
		return fmt.Errorf("adopting a socket without a stream protocol: %w", errors.ErrUnsupported)
	}
	return nil // adoptStream will see what it is
}

func checkUnix(transports []Transport) error {
	if len(transports) > 0 {
		return fmt.Errorf("%s on a Unix socket: %w", transports[0].Name(), errors.ErrUnsupported)
	}
	return nil
}

func (l *Listener) checkTCP() error {
	if l.proxy != nil && len(l.proxy.Trusted) == 0 {
		return errors.New("ProxyProtocol.Trusted is empty, so nobody could send a header")
	}
	return nil
}

// File returns a duplicate of the listening stream socket, for a child process
// to Adopt; the caller closes it. It is close-on-exec, which os/exec sees to
// for ExtraFiles, and stays non-blocking, as this process needs it. Connections
// that arrive while two processes have the socket go to whichever accepts first,
// and none is refused until the last of them has closed it. Errors: ErrClosed,
// and errors.ErrUnsupported for a listener without a stream protocol.
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

// SetUnlinkOnClose says whether closing the listener removes its Unix socket
// file: true where this engine bound it, false where it adopted it. Whoever hands
// it to another process says false, and the other one true. Whatever is set, a
// file that has been replaced since stays. It does nothing on other listeners, and
// fails if the file can't be looked at.
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

// String is the listener's address as Listen takes it: "host:port", or "unix:"
// and a path.
func (l *Listener) String() string {
	if l.name != "" {
		return l.name
	}
	return l.addr.String()
}

// Path is the path of a Unix socket; "" for other listeners, and for abstract
// names.
func (l *Listener) Path() string {
	name, _ := unixName(l.name)
	if strings.HasPrefix(name, "@") {
		return ""
	}
	return name
}

// closeStream closes the listening socket. On the acceptor, or when it doesn't
// run.
func (l *Listener) closeStream() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn.FD < 0 {
		return
	}
	if l.conn.Handler != nil {
		l.engine.acceptor.Remove(&l.conn)
	}
	// Before closing: while the socket listens nobody takes its file for stale.
	if err := l.file.unlink(); err != nil {
		l.engine.cfg.Logger.Error("socket file not removed", "addr", l.String(), "error", err)
	}
	l.file = socketFile{}
	reactor.Close(l.conn.FD)
	l.conn.FD = -1
}

// Done is closed when the listener has accepted its last connection and closed
// its stream socket, which is soon after Close. Only then does Stats.Active, once it
// is 0, mean that no connection is left that must be served here.
func (l *Listener) Done() <-chan struct{} { return l.done }

func (l *Listener) setDone() { l.doneOnce.Do(func() { close(l.done) }) }

// closeEndpoints gives the transports' sockets back, once.
func (l *Listener) closeEndpoints() {
	l.released.Do(func() {
		for _, ep := range l.endpoints {
			if err := ep.Close(); err != nil {
				l.engine.cfg.Logger.Error("closing an endpoint", "addr", ep.Addr().String(), "error", err)
			}
		}
	})
}

// ReleaseTransports ends the sessions of the listener's transports (QUIC) as
// Engine.Shutdown would, and then gives their sockets back, so that another
// process can bind them; sessions of its stream socket go on. It blocks until that
// is done. When ctx ends first, the rest is dropped, and ctx's error returned. Not
// for callbacks.
func (l *Listener) ReleaseTransports(ctx context.Context) error {
	for _, ep := range l.endpoints {
		ep.StopAccepting()
	}
	told := make(map[ID]bool)
	for pause := time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 20*time.Millisecond) {
		if l.endLinks(func(s *Session) {
			if !told[s.id] {
				told[s.id] = true
				go s.endLinkAfterMessages(ErrShutdown)
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
		l.endLinks(func(s *Session) { s.end(ErrShutdown, true) })
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
		if s.link != nil && s.listener == l {
			n++
			end(s)
		}
	}
	return n
}

// systemdFirstFD is the first descriptor that a service manager passes
// (sd_listen_fds(3), SD_LISTEN_FDS_START).
const systemdFirstFD = 3

// ActivationFiles returns the sockets that systemd opened for this process, in
// the order of its unit files and with their names, none if there are none. It
// makes them close-on-exec and unsets LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES,
// so that no child takes them for its own; a second call returns none. The files are
// the caller's. Errors: variables that make no sense. (sd_listen_fds(3).)
func ActivationFiles() ([]*os.File, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid == "" || count == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		return nil, fmt.Errorf("engine: LISTEN_PID %q is not a number", pid)
	}
	if n != os.Getpid() {
		return nil, nil // meant for another process
	}
	for _, v := range [...]string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(v); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	if n, err = strconv.Atoi(count); err != nil || n < 0 || n > 1<<16 {
		return nil, fmt.Errorf("engine: LISTEN_FDS %q is not a number of descriptors", count)
	}
	name := strings.Split(names, ":")
	files := make([]*os.File, 0, n)
	for i := range n {
		fd := systemdFirstFD + i
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
			return nil, fmt.Errorf("engine: LISTEN_FDS is %d, but descriptor %d: %w", n, fd, err)
		}
		unix.CloseOnExec(fd)
		called := "fd " + strconv.Itoa(fd)
		if i < len(name) && name[i] != "" {
			called = name[i]
		}
		files = append(files, os.NewFile(uintptr(fd), called))
	}
	return files, nil
}

// admissionAddr is by which address an accepted connection is admitted: none
// where a proxy's header will tell.
func (l *Listener) admissionAddr(remote netip.AddrPort) (addr netip.AddrPort, header bool) {
	if l.proxy != nil && l.proxy.trusts(remote, l.name != "") {
		return netip.AddrPort{}, true
	}
	return remote, false
}
