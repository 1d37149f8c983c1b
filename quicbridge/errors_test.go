package quicbridge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

func TestEndReason(t *testing.T) {
	remote := func(code Code) error { return &quic.ApplicationError{Remote: true, ErrorCode: code} }
	transport := func(remote bool, code quic.TransportErrorCode) error {
		return &quic.TransportError{Remote: remote, ErrorCode: code}
	}
	const noALPN = 0x100 + 120 // the TLS alert no_application_protocol
	for _, c := range []struct {
		err       error
		want      error
		retryable bool
	}{
		{remote(CodeNone), engine.ErrPeerClosed, true},
		{remote(CodeProtocol), engine.ErrProtocol, false},
		{remote(CodeTooLarge), engine.ErrTooLarge, false},
		{remote(CodeSlowConsumer), engine.ErrSlowConsumer, true},
		{remote(CodeGoingAway), engine.ErrPeerClosed, true},
		{remote(CodeRefused), engine.ErrRefused, true},
		{remote(CodeInternal), engine.ErrPeerClosed, true},
		{remote(4711), engine.ErrPeerClosed, true},
		{&quic.ApplicationError{ErrorCode: CodeNone}, engine.ErrClosed, false},
		{transport(true, quic.NoError), engine.ErrPeerClosed, true},
		{transport(true, quic.ApplicationErrorErrorCode), engine.ErrPeerClosed, true},
		{transport(true, quic.ConnectionRefused), engine.ErrRefused, true},
		{transport(false, quic.InternalError), engine.ErrConnectionLost, true},
		{transport(true, quic.InternalError), engine.ErrConnectionLost, true},
		{transport(false, quic.NoViablePathError), engine.ErrConnectionLost, true},
		{transport(false, quic.FlowControlError), engine.ErrProtocol, false},
		{transport(false, quic.StreamLimitError), engine.ErrProtocol, false},
		{transport(true, quic.ProtocolViolation), engine.ErrProtocol, false},
		{transport(true, noALPN), engine.ErrProtocol, false},
		{transport(true, noALPN), engine.ErrTLSHandshake, false},
		{transport(false, noALPN), engine.ErrTLSHandshake, false},
		{&quic.IdleTimeoutError{}, engine.ErrIdleTimeout, true},
		{&quic.HandshakeTimeoutError{}, engine.ErrHandshakeTimeout, true},
		{&quic.StatelessResetError{}, engine.ErrConnectionLost, true},
		{&quic.VersionNegotiationError{}, engine.ErrProtocol, false},
		{quic.ErrTransportClosed, engine.ErrClosed, false},
		{quic.ErrServerClosed, engine.ErrClosed, false},
		{fmt.Errorf("wrapped: %w", remote(CodeRefused)), engine.ErrRefused, true},
		{&net.OpError{Op: "write", Err: io.ErrClosedPipe}, engine.ErrConnectionLost, true},
	} {
		got := endReason(c.err)
		if !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v becomes %v, want %v", c.err, got, c.want)
		}
		if r := engine.Retryable(got); r != c.retryable {
			t.Errorf("%v: retryable %v", got, r)
		}
	}
	if err := dialReason(&quic.IdleTimeoutError{}); !errors.Is(err, engine.ErrHandshakeTimeout) {
		t.Errorf("a silent peer in the handshake becomes %v", err)
	}
}

func TestCloseCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
	}{
		{engine.ErrClosed, CodeNone},
		{engine.ErrPeerClosed, CodeNone},
		{engine.ErrIdleTimeout, CodeNone},
		{errors.New("the application's own"), CodeNone},
		{engine.ErrProtocol, CodeProtocol},
		{framing.ErrMalformed, CodeProtocol},
		{engine.ErrTooLarge, CodeTooLarge},
		{fmt.Errorf("%w: %w", engine.ErrProtocol, engine.ErrTooLarge), CodeTooLarge},
		{engine.ErrSlowConsumer, CodeSlowConsumer},
		{engine.ErrShutdown, CodeGoingAway},
		{engine.ErrRefused, CodeRefused},
		{&engine.PanicError{Value: "x"}, CodeInternal},
	} {
		if got := closeCode(c.err); got != c.want {
			t.Errorf("%v has the code %d, want %d", c.err, got, c.want)
		}
	}
}
