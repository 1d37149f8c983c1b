package engine

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/millrace/millrace/framing"
)

// Reasons why a session ended, and errors that its methods return. Tell them
// apart with errors.Is; what OnClose gets may wrap one of them with details.
var (
	// ErrClosed: this side closed the session, the listener or the engine.
	// errors.Is(ErrClosed, net.ErrClosed) holds.
	ErrClosed error = closedError("engine: closed")

	// ErrPeerClosed: the peer ended the conversation in an orderly way.
	ErrPeerClosed = errors.New("engine: closed by the peer")

	// ErrConnectionLost: the transport failed under the session (a reset, a
	// network timeout). It wraps the system's error where there is one.
	ErrConnectionLost = errors.New("engine: connection lost")

	// ErrIdleTimeout: no bytes came for Config.IdleTimeout.
	ErrIdleTimeout = errors.New("engine: idle timeout")

	// ErrPartialTimeout: the peer did not complete a message in
	// Config.PartialTimeout.
	ErrPartialTimeout = errors.New("engine: partial message timeout")

	// ErrHandshakeTimeout: the peer didn't finish its handshake in
	// Config.HandshakeTimeout.
	ErrHandshakeTimeout = errors.New("engine: handshake timeout")

	// ErrProtocol: the peer sent what its protocol doesn't allow. Errors of
	// package framing arrive wrapped together with it.
	ErrProtocol = errors.New("engine: protocol error")

	// ErrTooLarge: a message above Config.MaxMessageSize.
	ErrTooLarge = framing.ErrTooLarge

	// ErrSlowConsumer: the peer didn't collect what was sent to it and its
	// outbox reached Config.OutboxLimit.
	ErrSlowConsumer = errors.New("engine: slow consumer")

	// ErrDropped: the message wasn't queued, because the peer doesn't collect
	// what was sent to it and Config.SlowConsumer is DropNewest (or DropOldest, and nothing older
	// could be dropped). The session goes on.
	ErrDropped = errors.New("engine: message dropped")

	// ErrWriteTimeout: the peer took no bytes for Config.WriteTimeout.
	ErrWriteTimeout = errors.New("engine: write timeout")

	// ErrRefused: the engine or the peer didn't admit the connection.
	ErrRefused = errors.New("engine: refused")

	// ErrShutdown: the engine is shutting down. It is also ErrClosed.
	ErrShutdown error = closedError("engine: shutting down")

	// ErrStillRunning: Close or Shutdown returned before the engine was closed,
	// because callbacks are still running, or very many sessions end. The closing goes
	// on, and ends when they have. It is also context.DeadlineExceeded.
	ErrStillRunning = fmt.Errorf("engine: still closing, callbacks may be running: %w", context.DeadlineExceeded)

	// ErrHandlerPanic: the session's handler panicked; see PanicError.
	ErrHandlerPanic = errors.New("engine: handler panicked")

	// ErrWouldBlock: the call would have to wait, and may not wait here.
	ErrWouldBlock = errors.New("engine: would block")
)

var (
	errUnknownProtocol = fmt.Errorf("%w: no protocol of this listener starts like this", ErrProtocol)
	errEarlyMessage    = fmt.Errorf("%w: a message before the end of the handshake", ErrProtocol)
	errNoSlot          = fmt.Errorf("%w: all session slots of the core are in use", ErrRefused)
	errMaxSessions     = fmt.Errorf("%w: Config.MaxSessions are there", ErrRefused)
	errMaxPerAddr      = fmt.Errorf("%w: Config.MaxSessionsPerAddr are there", ErrRefused)
	errMaxHandshakes   = fmt.Errorf("%w: Config.MaxHandshakes are under way", ErrRefused)
	errAcceptRate      = fmt.Errorf("%w: more than Config.AcceptRate connections a second", ErrRefused)
)

// PanicError is the close reason of a session whose handler panicked.
// errors.Is(err, ErrHandlerPanic) holds.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // the goroutine's stack at that moment
}

func (e *PanicError) Error() string { return fmt.Sprintf("%v: %v", ErrHandlerPanic, e.Value) }

// Is makes errors.Is(e, ErrHandlerPanic) true.
func (e *PanicError) Is(target error) bool { return target == ErrHandlerPanic }

// closedError is an end that this side wanted.
type closedError string

func (e closedError) Error() string { return string(e) }

// Is makes every closedError both ErrClosed and net.ErrClosed.
func (e closedError) Is(target error) bool { return target == ErrClosed || target == net.ErrClosed }

// Retryable reports whether trying again on a new connection may succeed: it is
// true for a lost, refused, timed-out or shut-down connection, and false where the same
// attempt would fail in the same way (a protocol error, a message too large).
func Retryable(err error) bool {
	for _, e := range [...]error{ErrConnectionLost, ErrPeerClosed, ErrIdleTimeout, ErrPartialTimeout,
		ErrHandshakeTimeout, ErrRefused, ErrShutdown, ErrSlowConsumer, ErrWriteTimeout} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// protocolError gives err the ErrProtocol identity, unless it already says what
// kind of end this is.
func protocolError(err error) error {
	if errors.Is(err, ErrProtocol) || errors.Is(err, ErrPeerClosed) || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
