package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/framing"
)

// Errors of a request, besides the context's error and the session's close reason
// (the Err variables of package engine). Compare them with errors.Is.
var (
	// ErrTooManyPending: Config.MaxPending requests already wait on this session.
	// Nothing was sent.
	ErrTooManyPending = errors.New("mux: too many requests are pending on this session")

	// ErrStreaming: the Response announces further Responses with the same ID
	// (framing.FlagMore), but a request accepts only one. The others are dropped
	// when they arrive.
	ErrStreaming = errors.New("mux: the answer is a stream of responses")

	// ErrFragmented: the Response is only the first part of one
	// (framing.FlagFragmented). The other parts are dropped when they arrive.
	ErrFragmented = errors.New("mux: the answer is fragmented")
)

// RemoteError is the failure that a peer reports for a request: a Response with
// framing.FlagFailed. The application defines the meaning of Code and Text.
type RemoteError struct {
	Code uint16
	Text string // valid UTF-8: invalid bytes of the peer are replaced by U+FFFD
}

// Error quotes the text, because a peer may put any characters into it.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("mux: the peer failed with code %d: %q", e.Code, e.Text)
}

// failedPrefixSize is the size in bytes of the code in front of the text of a
// failed Response (docs/WIRE.md section 1).
const failedPrefixSize = 2

// responseError returns the error for which m, a Response, fails its request, or
// nil.
func responseError(m *framing.Message) error {
	switch {
	case m.Flags&framing.FlagMore != 0:
		return ErrStreaming
	case m.Flags&framing.FlagFragmented != 0:
		return ErrFragmented
	case m.Flags&framing.FlagFailed == 0:
		return nil
	case len(m.Payload) < failedPrefixSize:
		return fmt.Errorf("%w: a failed response of %d bytes has no code", framing.ErrMalformed, len(m.Payload))
	}
	return &RemoteError{
		Code: binary.BigEndian.Uint16(m.Payload),
		Text: strings.ToValidUTF8(string(m.Payload[failedPrefixSize:]), "\ufffd"),
	}
}
