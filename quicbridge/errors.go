package quicbridge

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// Code is the application error code with which a connection is closed (RFC 9000
// section 20.2). Both directions use the same codes.
type Code = quic.ApplicationErrorCode

// The codes that this package sends. Any other code from a peer means the same as
// CodeNone.
const (
	CodeNone         Code = 0 // an orderly close
	CodeProtocol     Code = 1 // the peer violated the protocol
	CodeTooLarge     Code = 2 // the peer sent a message above the limit
	CodeSlowConsumer Code = 3 // the peer did not read its data in time
	CodeGoingAway    Code = 4 // the sender's engine is shutting down
	CodeRefused      Code = 5 // the connection wasn't admitted
	CodeInternal     Code = 6 // the sender's handler failed
)

// codeText is the reason phrase that is sent with each code. The local error is
// never sent, because it may contain internal details.
var codeText = [...]string{
	CodeNone:         "",
	CodeProtocol:     "protocol error",
	CodeTooLarge:     "message too large",
	CodeSlowConsumer: "slow consumer",
	CodeGoingAway:    "going away",
	CodeRefused:      "refused",
	CodeInternal:     "internal error",
}

// streamCancelled is the stream error code (RFC 9000 section 20.2) for a stream
// that is cancelled while its connection continues.
const streamCancelled quic.StreamErrorCode = 0

// closeCode returns the code for the reason why this side closes a connection.
func closeCode(reason error) Code {
	for _, c := range [...]struct {
		err  error
		code Code
	}{
		{engine.ErrShutdown, CodeGoingAway},
		{engine.ErrTooLarge, CodeTooLarge}, // before ErrProtocol, which may wrap it
		{engine.ErrProtocol, CodeProtocol},
		{framing.ErrMalformed, CodeProtocol},
		{engine.ErrSlowConsumer, CodeSlowConsumer},
		{engine.ErrWriteTimeout, CodeSlowConsumer},
		{engine.ErrRefused, CodeRefused}, // before ErrMemoryLimit, which it may wrap
		{engine.ErrMemoryLimit, CodeSlowConsumer},
		{engine.ErrHandlerPanic, CodeInternal},
	} {
		if errors.Is(reason, c.err) {
			return c.code
		}
	}
	return CodeNone
}

// endReason turns quic-go's error for the end of a connection into one that
// wraps the engine's reason and the original.
func endReason(err error) error {
	var (
		application *quic.ApplicationError
		transport   *quic.TransportError
		version     *quic.VersionNegotiationError
		idle        *quic.IdleTimeoutError
		handshake   *quic.HandshakeTimeoutError
		reason      error
	)
	switch {
	case errors.As(err, &application):
		reason = applicationReason(application)
	case errors.As(err, &transport):
		reason = transportReason(transport)
	case errors.As(err, &idle):
		reason = engine.ErrIdleTimeout
	case errors.As(err, &handshake):
		reason = engine.ErrHandshakeTimeout
	case errors.As(err, &version):
		reason = engine.ErrProtocol
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed):
		reason = engine.ErrClosed
	default: // a stateless reset, a socket that failed
		reason = engine.ErrConnectionLost
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// applicationReason returns the engine's reason for an application close.
func applicationReason(err *quic.ApplicationError) error {
	if !err.Remote {
		return engine.ErrClosed
	}
	switch err.ErrorCode {
	case CodeProtocol:
		return engine.ErrProtocol
	case CodeTooLarge:
		return engine.ErrTooLarge
	case CodeSlowConsumer:
		return engine.ErrSlowConsumer
	case CodeRefused:
		return engine.ErrRefused
	default:
		return engine.ErrPeerClosed
	}
}

// transportReason returns the engine's reason for a QUIC transport error (RFC 9000
// section 20.1). Codes from 0x100 on are TLS alerts, which end a handshake: a
// certificate that isn't trusted, no common ALPN. ErrTLSHandshake is also
// ErrProtocol.
func transportReason(err *quic.TransportError) error {
	switch {
	case err.ErrorCode.IsCryptoError():
		return engine.ErrTLSHandshake
	case err.ErrorCode == quic.ConnectionRefused:
		return engine.ErrRefused
	case err.Remote && (err.ErrorCode == quic.NoError || err.ErrorCode == quic.ApplicationErrorErrorCode):
		return engine.ErrPeerClosed // the latter stands for any application close during the handshake
	case err.ErrorCode == quic.NoError, err.ErrorCode == quic.InternalError, err.ErrorCode == quic.NoViablePathError:
		return engine.ErrConnectionLost
	default:
		return engine.ErrProtocol
	}
}

// dialReason is endReason for a connection whose handshake isn't done. During a
// handshake quic-go reports a silent peer as an idle timeout.
func dialReason(err error) error {
	var idle *quic.IdleTimeoutError
	if errors.As(err, &idle) {
		return fmt.Errorf("%w: %w", engine.ErrHandshakeTimeout, err)
	}
	return endReason(err)
}
