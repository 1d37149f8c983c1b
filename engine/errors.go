package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/millrace/millrace/framing"
)

// Reasons why a session ended, and errors that its methods return. Distinguish them
// with errors.Is: the reason that OnClose gets may wrap one of them with details.
var (
	// ErrClosed: this side closed the session, the listener or the engine.
	// errors.Is(ErrClosed, net.ErrClosed) holds.
	ErrClosed error = closedError("engine: closed")

	// ErrPeerClosed: the peer ended the session in an orderly way.
	ErrPeerClosed = errors.New("engine: closed by the peer")

	// ErrConnectionLost: the transport of the session failed (a reset, a network
	// timeout). It wraps the system's error if there is one.
	ErrConnectionLost = errors.New("engine: connection lost")

	// ErrIdleTimeout: no bytes arrived for Config.IdleTimeout.
	ErrIdleTimeout = errors.New("engine: idle timeout")

	// ErrPongTimeout: the peer sent nothing for Config.PingInterval, and did not answer a
	// ping within Config.PongTimeout.
	ErrPongTimeout = errors.New("engine: pong timeout")

	// ErrPartialTimeout: the peer did not complete a message within
	// Config.PartialTimeout.
	ErrPartialTimeout = errors.New("engine: partial message timeout")

	// ErrHandshakeTimeout: the peer did not finish its handshake within
	// Config.HandshakeTimeout.
	ErrHandshakeTimeout = errors.New("engine: handshake timeout")

	// ErrProtocol: the peer violated its protocol. Errors of package framing are
	// wrapped together with it.
	ErrProtocol = errors.New("engine: protocol error")

	// ErrTooLarge: a message is larger than Config.MaxMessageSize.
	ErrTooLarge = framing.ErrTooLarge

	// ErrSlowConsumer: the peer read too slowly, and its outbox reached
	// Config.OutboxLimit.
	ErrSlowConsumer = errors.New("engine: slow consumer")

	// ErrMemoryLimit: the session was closed because the process uses more than
	// Config.MemoryLimit, and the session had one of the largest backlogs. Or the
	// connection was refused because the process uses 80 % of the limit; the error is then
	// also ErrRefused.
	ErrMemoryLimit = errors.New("engine: memory limit")

	// ErrDropped: the message was not queued, because the outbox is full and
	// Config.SlowConsumer is SlowConsumerDropNewest (or SlowConsumerDropOldest, and no older message could be
	// dropped). The session continues.
	ErrDropped = errors.New("engine: message dropped")

	// ErrWriteTimeout: the peer accepted no bytes for Config.WriteTimeout.
	ErrWriteTimeout = errors.New("engine: write timeout")

	// ErrRefused: the engine or the peer did not admit the connection.
	ErrRefused = errors.New("engine: refused")

	// ErrUnauthorized: an Authorizer refused the session; see Refusal. It is also
	// ErrRefused.
	ErrUnauthorized = fmt.Errorf("%w: not authorized", ErrRefused)

	// ErrShutdown: the engine is shutting down. It is also ErrClosed.
	ErrShutdown error = closedError("engine: shutting down")

	// ErrStillRunning: Close or Shutdown returned before the engine was closed, because
	// callbacks are still running, or very many sessions end. The engine continues to
	// close in the background. It is also context.DeadlineExceeded.
	ErrStillRunning = fmt.Errorf("engine: still closing, callbacks may be running: %w", context.DeadlineExceeded)

	// ErrHandlerPanic: the session's handler panicked; see PanicError.
	ErrHandlerPanic = errors.New("engine: handler panicked")

	// ErrWouldBlock: the call would have to wait, and must not wait here.
	ErrWouldBlock = errors.New("engine: would block")
)

var (
	errUnknownProtocol = fmt.Errorf("%w: no protocol of this listener starts like this", ErrProtocol)
	errEarlyMessage    = fmt.Errorf("%w: a message before the end of the handshake", ErrProtocol)
	errNoSlot          = fmt.Errorf("%w: all session slots of the core are in use", ErrRefused)
	errMaxSessions     = fmt.Errorf("%w: Config.MaxSessions are there", ErrRefused)
	errMaxOfListener   = fmt.Errorf("%w: ListenConfig.MaxSessions are there", ErrRefused)
	errMaxOfProtocol   = fmt.Errorf("%w: ListenConfig.MaxSessionsOf are there", ErrRefused)
	errMaxPerAddr      = fmt.Errorf("%w: Config.MaxSessionsPerAddr are there", ErrRefused)
	errMaxHandshakes   = fmt.Errorf("%w: Config.MaxHandshakes are under way", ErrRefused)
	errMemoryRefused   = fmt.Errorf("%w: %w: the process uses 80 %% of Config.MemoryLimit", ErrRefused, ErrMemoryLimit)
	errAcceptRate      = fmt.Errorf("%w: more than Config.AcceptRate connections a second", ErrRefused)
)

// PanicError is the close reason of a session whose handler panicked.
// errors.Is(err, ErrHandlerPanic) holds.
type PanicError struct {
	Value any    // the argument of panic
	Stack []byte // the goroutine's stack at that moment
}

func (e *PanicError) Error() string { return fmt.Sprintf("%v: %v", ErrHandlerPanic, e.Value) }

// Is makes errors.Is(e, ErrHandlerPanic) true.
func (e *PanicError) Is(target error) bool { return target == ErrHandlerPanic }

// closedError is a reason for an end that this side started.
type closedError string

func (e closedError) Error() string { return string(e) }

// Is makes every closedError both ErrClosed and net.ErrClosed.
func (e closedError) Is(target error) bool { return target == ErrClosed || target == net.ErrClosed }

// Retryable reports whether another attempt on a new connection may succeed. It is
// true for a lost, refused, timed-out or shut-down connection, also if Dial could not
// reach the peer. It is false if the same attempt would fail in the same way (a protocol
// error, a message too large), and if a context has ended. A peer that refuses a message
// over TCP does not send its reason, and the error is ErrPeerClosed: bound the attempts.
func Retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		return !name.IsNotFound
	}
	for _, e := range [...]error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ENOENT, // no Unix socket of that name
		ErrConnectionLost, ErrPeerClosed, ErrIdleTimeout, ErrPongTimeout, ErrPartialTimeout,
		ErrHandshakeTimeout, ErrRefused, ErrShutdown, ErrSlowConsumer, ErrWriteTimeout, ErrMemoryLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// protocolError wraps err with ErrProtocol, unless it is already one of the session's
// reasons.
func protocolError(err error) error {
	if errors.Is(err, ErrProtocol) || errors.Is(err, ErrPeerClosed) || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
