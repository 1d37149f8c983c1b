package wsupgrade

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// CloseError is a WebSocket close: the code and the reason of a Close frame.
//
// One that the peer sent is the session's close reason (get it by errors.As),
// and is engine.ErrPeerClosed. One that the application makes and passes to
// Session.CloseWith chooses the code and the reason that the peer gets, and is
// engine.ErrClosed.
type CloseError struct {
	// Code is the status code of RFC 6455 section 7.4. 1005 stands for a Close
	// frame without a code. To send: 0 means 1000, and a code that may not be
	// sent becomes 1011.
	Code uint16

	// Reason is the peer's UTF-8 text, not to be trusted. To send, it is cut
	// off at 123 bytes, and at the first byte that isn't UTF-8.
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

// HandshakeError is an upgrade that came to nothing. On the accepting side it
// is engine.ErrProtocol, and the peer gets Status as an HTTP error; on the
// dialing side it is engine.ErrRefused, and Status is what the server said.
type HandshakeError struct {
	Status int    // the HTTP status code
	Reason string // what was wrong; empty on the dialing side

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

// violation is a peer's breach of RFC 6455 or of what its path carries. It is
// engine.ErrProtocol, and its cause where there is one.
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

// closeCodes are the close codes of the engine's reasons, the narrower reason
// before the wider one that it wraps.
var closeCodes = []struct {
	reason error
	code   ws.StatusCode
}{
	{engine.ErrHandlerPanic, ws.StatusInternalServerError},
	{engine.ErrTooLarge, ws.StatusMessageTooBig},
	{engine.ErrProtocol, ws.StatusProtocolError},
	{engine.ErrSlowConsumer, ws.StatusPolicyViolation},
	{engine.ErrIdleTimeout, ws.StatusGoingAway},
	{engine.ErrShutdown, ws.StatusGoingAway},
	{engine.ErrClosed, ws.StatusNormalClosure},
	{engine.ErrPeerClosed, ws.StatusNormalClosure},
}

// codeOf is the close code for reason, or otherwise for one that says nothing
// to the engine.
func codeOf(reason error, otherwise ws.StatusCode) ws.StatusCode {
	for _, c := range closeCodes {
		if errors.Is(reason, c.reason) {
			return c.code
		}
	}
	return otherwise
}
