package wsupgrade

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// maxReason is how many bytes of reason fit in a close frame with the code.
const maxReason = ws.MaxControlFramePayloadSize - 2

// Goodbye implements engine.Codec: it appends a Close frame, or an HTTP error if
// the handshake isn't done. If the peer began the close, the frame carries the
// peer's code.
func (c *codec) Goodbye(dst []byte, reason error) []byte {
	if !c.open.Load() {
		return appendRefusal(dst, reason)
	}
	code, text := closeStatus(reason)
	if code == uint16(ws.StatusNoStatusRcvd) {
		return appendControl(dst, finClose, nil, c.client)
	}
	var payload [ws.MaxControlFramePayloadSize]byte
	binary.BigEndian.PutUint16(payload[:], code)
	n := copy(payload[2:], text)
	return appendControl(dst, finClose, payload[:2+n], c.client)
}

// closeStatus returns the content of the close frame for reason.
func closeStatus(reason error) (code uint16, text string) {
	var closed *CloseError
	var broken *violation
	switch {
	case errors.As(reason, &closed):
		return closed.status()
	case errors.As(reason, &broken):
		return uint16(broken.code), cutReason(broken.text)
	}
	// One of the engine's reasons, or an error of the application.
	return uint16(codeOf(reason, ws.StatusInternalServerError)), ""
}

// status returns the content of the close frame for e.
func (e *CloseError) status() (code uint16, text string) {
	switch {
	case e.Code == uint16(ws.StatusNoStatusRcvd):
		return e.Code, ""
	case e.Code == 0:
		return uint16(ws.StatusNormalClosure), cutReason(e.Reason)
	case !sendable(e.Code):
		return uint16(ws.StatusInternalServerError), cutReason(e.Reason)
	case e.received:
		// RFC 6455 section 5.5.1: "the endpoint typically echos the status
		// code it received".
		return e.Code, ""
	}
	return e.Code, cutReason(e.Reason)
}

// cutReason returns the longest prefix of text that is UTF-8 and has at most
// maxReason bytes.
func cutReason(text string) string {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if i+size > maxReason || r == utf8.RuneError && size == 1 {
			return text[:i]
		}
		i += size
	}
	return text
}

// refusals are the HTTP statuses for the engine's reasons to end a handshake. A
// more specific reason comes before a more general one.
var refusals = []struct {
	reason error
	status int
}{
	{engine.ErrHandshakeTimeout, http.StatusRequestTimeout},
	{engine.ErrIdleTimeout, http.StatusRequestTimeout},
	{engine.ErrRefused, http.StatusServiceUnavailable},
	{engine.ErrClosed, http.StatusServiceUnavailable},
	{engine.ErrPeerClosed, http.StatusBadRequest}, // the peer closed within its request
	{engine.ErrTooLarge, http.StatusRequestHeaderFieldsTooLarge},
	{engine.ErrProtocol, http.StatusBadRequest},
}

// appendRefusal appends the HTTP response that ends a handshake.
func appendRefusal(dst []byte, reason error) []byte {
	status, text := http.StatusInternalServerError, ""
	var refused *HandshakeError
	var refusal *engine.Refusal
	if errors.As(reason, &refused) {
		status, text = refused.Status, refused.Reason
	} else if errors.As(reason, &refusal) {
		status, text = refusal.Status, cutReason(refusal.Reason)
	} else {
		for _, r := range refusals {
			if errors.Is(reason, r.reason) {
				status = r.status
				break
			}
		}
	}
	if text == "" {
		text = http.StatusText(status)
	}
	return fmt.Appendf(dst, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s\n",
		status, http.StatusText(status), refusalHeaders(status), len(text)+1, text)
}

// refusalHeaders are the header lines that depend on status.
func refusalHeaders(status int) string {
	switch status {
	case http.StatusMethodNotAllowed:
		return "Connection: close\r\nAllow: GET\r\n"
	case http.StatusUpgradeRequired:
		// RFC 6455 section 4.2.2: with 426 goes "a |Sec-WebSocket-Version|
		// header field indicating the version(s) the server is capable of
		// understanding".
		return "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	return "Connection: close\r\n"
}
