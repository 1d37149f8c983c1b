package wsupgrade

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// CloseError holds the code and the reason of a Close frame.
//
// If the peer closed the session, the close reason wraps a CloseError (use
// errors.As), which is engine.ErrPeerClosed. An application can pass its own
// CloseError to Session.CloseWith, to choose the code and the reason that are sent;
// that is engine.ErrClosed.
type CloseError struct {
	// Code is the status code of RFC 6455 section 7.4. 1005 means a Close frame
	// without a code, in both directions. When sent, 0 becomes 1000, and a code
	// that must not be sent becomes 1011.
	Code uint16

	// Reason is UTF-8 text. Do not trust the peer's. When sent, it is cut off at
	// 123 bytes, and at the first byte that isn't UTF-8.
	Reason string

	received bool // the peer sent it
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("wsupgrade: closed with code %d", e.Code)
	}
	return fmt.Sprintf("wsupgrade: closed with code %d: %q", e.Code, e.Reason)
}

// Unwrap returns engine.ErrPeerClosed or engine.ErrClosed.
func (e *CloseError) Unwrap() error {
	if e.received {
		return engine.ErrPeerClosed
	}
	return engine.ErrClosed
}

// HandshakeError is a failed upgrade. On the accepting side it is
// engine.ErrProtocol, and Status is sent to the peer as an HTTP error. On the
// dialing side it is engine.ErrRefused, and Status is the server's.
type HandshakeError struct {
	Status int    // the HTTP status code
	Reason string // the fault of the request; empty on the dialing side

	refused bool // the dialing side
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("wsupgrade: handshake refused: HTTP %d %s", e.Status, http.StatusText(e.Status))
	if e.Reason == "" {
		return text
	}
	return text + ": " + e.Reason
}

// Unwrap returns engine.ErrRefused or engine.ErrProtocol.
func (e *HandshakeError) Unwrap() error {
	if e.refused {
		return engine.ErrRefused
	}
	return engine.ErrProtocol
}

// violation is a peer's violation of RFC 6455 or of its path's format. It is
// engine.ErrProtocol, and wraps its cause, if it has one.
type violation struct {
	code  ws.StatusCode // for the close frame
	text  string
	cause error
}

// violate returns a violation without a cause.
func violate(code ws.StatusCode, text string) error {
	return &violation{code: code, text: text}
}

func (v *violation) Error() string        { return "wsupgrade: " + v.text }
func (v *violation) Is(target error) bool { return target == engine.ErrProtocol }
func (v *violation) Unwrap() error        { return v.cause }

// closeCodes are the close codes for the engine's reasons. A more specific reason
// comes before a more general one that it wraps.
var closeCodes = []struct {
	reason error
	code   ws.StatusCode
}{
	{engine.ErrHandlerPanic, ws.StatusInternalServerError},
	{engine.ErrTooLarge, ws.StatusMessageTooBig},
	{engine.ErrProtocol, ws.StatusProtocolError},
	{engine.ErrSlowConsumer, ws.StatusPolicyViolation},
	{engine.ErrIdleTimeout, ws.StatusGoingAway},
	{engine.ErrPartialTimeout, ws.StatusPolicyViolation},
	{engine.ErrShutdown, ws.StatusGoingAway},
	{engine.ErrClosed, ws.StatusNormalClosure},
	{engine.ErrPeerClosed, ws.StatusNormalClosure},
}

// codeOf returns the close code for reason, or otherwise if reason is none of the
// engine's.
func codeOf(reason error, otherwise ws.StatusCode) ws.StatusCode {
	for _, c := range closeCodes {
		if errors.Is(reason, c.reason) {
			return c.code
		}
	}
	return otherwise
}
