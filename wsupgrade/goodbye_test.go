package wsupgrade

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestGoodbyeCodes is the close code of each reason, in both roles.
func TestGoodbyeCodes(t *testing.T) {
	for _, tc := range []struct {
		reason error
		code   ws.StatusCode
		text   string
	}{
		{engine.ErrShutdown, ws.StatusGoingAway, ""},
		{engine.ErrClosed, ws.StatusNormalClosure, ""},
		{engine.ErrTooLarge, ws.StatusMessageTooBig, ""},
		{fmt.Errorf("%w: %w", engine.ErrProtocol, engine.ErrTooLarge), ws.StatusMessageTooBig, ""},
		{engine.ErrProtocol, ws.StatusProtocolError, ""},
		{fmt.Errorf("%w: %w", engine.ErrProtocol, framing.ErrMalformed), ws.StatusProtocolError, ""},
		{fmt.Errorf("decode: %w", errTextNotUTF8), ws.StatusInvalidFramePayloadData, "text message that is not UTF-8"},
		{errTextOnPackets, ws.StatusUnsupportedData, "text message where packets are spoken"},
		{&engine.PanicError{Value: "boom"}, ws.StatusInternalServerError, ""},
		{engine.ErrSlowConsumer, ws.StatusPolicyViolation, ""},
		{engine.ErrIdleTimeout, ws.StatusGoingAway, ""},
		{engine.ErrPeerClosed, ws.StatusNormalClosure, ""},
		{errors.New("the application's own"), ws.StatusInternalServerError, ""},
		{&CloseError{Code: 4001, Reason: "kicked"}, 4001, "kicked"},
		{fmt.Errorf("%w: %w", engine.ErrClosed, &CloseError{Code: 3000}), 3000, ""},
		{&CloseError{Reason: "bye"}, ws.StatusNormalClosure, "bye"},
		{&CloseError{Code: 1006, Reason: "no"}, ws.StatusInternalServerError, "no"},
		{&CloseError{Code: 65535}, ws.StatusInternalServerError, ""},
		{&CloseError{Code: 1001, Reason: "said the peer", received: true}, ws.StatusGoingAway, ""},
	} {
		for _, c := range []*codec{openCodec(true), clientCodec(false)} {
			frame := c.Goodbye(nil, tc.reason)
			if code, text := codeIn(t, frame); code != tc.code || text != tc.text {
				t.Errorf("%v, client %v: %d %q, want %d %q", tc.reason, c.client, code, text, tc.code, tc.text)
			}
			if masked := frame[1]&maskBit != 0; masked != c.client {
				t.Errorf("%v: masked %v by client %v", tc.reason, masked, c.client)
			}
		}
	}
}

// TestGoodbyeAppends keeps the content of dst.
func TestGoodbyeAppends(t *testing.T) {
	for _, c := range []*codec{openCodec(true), clientCodec(true), serverCodec()} {
		if got := c.Goodbye([]byte("before"), engine.ErrClosed); !bytes.HasPrefix(got, []byte("before")) || len(got) <= len("before") {
			t.Errorf("% x", got)
		}
	}
}

// TestCloseReasonFits cuts a reason at a whole character, and at one that isn't
// UTF-8: a close frame has 125 bytes at most.
func TestCloseReasonFits(t *testing.T) {
	for _, tc := range []struct {
		reason string
		length int
	}{
		{strings.Repeat("a", 123), 123},
		{strings.Repeat("a", 124), 123},
		{strings.Repeat("€", 100), 123},
		{strings.Repeat("ä", 100), 122},
		{"a" + strings.Repeat("ä", 100), 123},
		{"cut\xffhere", 3},
		{"\ufffd is a character", 18},
		{strings.Repeat("x", 1<<20), 123},
	} {
		frame := openCodec(true).Goodbye(nil, &CloseError{Code: 4000, Reason: tc.reason})
		if _, text := codeIn(t, frame); len(text) != tc.length || !utf8.ValidString(text) || len(frame) > 127 {
			t.Errorf("%.20q is sent as %q, %d bytes, want %d", tc.reason, text, len(text), tc.length)
		}
	}
}

// readResponse reads one whole HTTP response.
func readResponse(t *testing.T, b []byte) *http.Response {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || len(body) == 0 || r.Buffered() != 0 {
		t.Fatalf("%q: body %q, %v", b, body, err)
	}
	return res
}

// TestRefusals is the HTTP status of each reason to end a handshake.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		reason error
		status int
	}{
		{engine.ErrHandshakeTimeout, http.StatusRequestTimeout},
		{engine.ErrIdleTimeout, http.StatusRequestTimeout},
		{engine.ErrShutdown, http.StatusServiceUnavailable},
		{engine.ErrClosed, http.StatusServiceUnavailable},
		{engine.ErrRefused, http.StatusServiceUnavailable},
		{engine.ErrPeerClosed, http.StatusBadRequest},
		{engine.ErrProtocol, http.StatusBadRequest},
		{engine.ErrTooLarge, http.StatusRequestHeaderFieldsTooLarge},
		{errors.New("anything"), http.StatusInternalServerError},
		{fmt.Errorf("%w: %w", engine.ErrProtocol, errNoSuchPath), http.StatusNotFound},
	} {
		if res := readResponse(t, serverCodec().Goodbye(nil, tc.reason)); res.StatusCode != tc.status || !res.Close {
			t.Errorf("%v: HTTP %d, close %v; want %d", tc.reason, res.StatusCode, res.Close, tc.status)
		}
	}
}

// TestRefusalHeaders sends the headers that RFC 9110 section 15.5 requires with two
// statuses.
func TestRefusalHeaders(t *testing.T) {
	res := readResponse(t, appendRefusal(nil, &HandshakeError{Status: http.StatusUpgradeRequired, Reason: "old"}))
	if res.Header.Get("Sec-WebSocket-Version") != "13" || res.Header.Get("Upgrade") != "websocket" {
		t.Errorf("426 with %v", res.Header)
	}
	res = readResponse(t, appendRefusal(nil, &HandshakeError{Status: http.StatusMethodNotAllowed}))
	if res.Header.Get("Allow") != "GET" {
		t.Errorf("405 with %v", res.Header)
	}
}

// TestErrorIdentities checks errors.Is and errors.As for OnClose's reasons.
func TestErrorIdentities(t *testing.T) {
	for _, tc := range []struct {
		err     error
		is, not []error
	}{
		{&CloseError{Code: 1000, received: true}, []error{engine.ErrPeerClosed}, []error{engine.ErrClosed, engine.ErrProtocol}},
		{&CloseError{Code: 4000}, []error{engine.ErrClosed, net.ErrClosed}, []error{engine.ErrPeerClosed, engine.ErrProtocol}},
		{&HandshakeError{Status: 404}, []error{engine.ErrProtocol}, []error{engine.ErrRefused}},
		{&HandshakeError{Status: 404, refused: true}, []error{engine.ErrRefused}, []error{engine.ErrProtocol}},
		{errReservedBits, []error{engine.ErrProtocol}, []error{engine.ErrTooLarge, framing.ErrMalformed}},
		{errPacketPartial, []error{engine.ErrProtocol, framing.ErrMalformed}, []error{engine.ErrTooLarge}},
		{tooLarge(1, 2, 3), []error{engine.ErrProtocol, engine.ErrTooLarge, framing.ErrTooLarge}, []error{engine.ErrClosed}},
	} {
		for _, target := range tc.is {
			if !errors.Is(tc.err, target) {
				t.Errorf("%v isn't %v", tc.err, target)
			}
		}
		for _, target := range tc.not {
			if errors.Is(tc.err, target) {
				t.Errorf("%v is %v", tc.err, target)
			}
		}
		if !strings.HasPrefix(tc.err.Error(), "wsupgrade: ") {
			t.Errorf("%q doesn't name its package", tc.err)
		}
	}
}
