package e2e_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
)

const (
	// pingPacket is Request 2 "ping", pongPacket its Response.
	pingPacket = "01000100 00000002 0000 00000004 0000 70696e67"
	pongPacket = "01000200 00000002 0000 00000004 0000 70696e67"

	upgradeRequest = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

// The reasons of badStreams.
var (
	protocol  = []error{engine.ErrProtocol}
	malformed = []error{engine.ErrProtocol, framing.ErrMalformed}
	tooLarge  = []error{framing.ErrTooLarge}
)

// badStreams are the input of hostile or broken peers on a TCP connection: raw text,
// or bytes in hexadecimal after valid ones. Each ends its session for a reason, with
// last bytes for the peer.
var badStreams = []struct {
	name   string
	text   string  // sent first
	hex    string  // sent then
	reason []error // of OnClose, or of the refusal if no session was opened
	stats  string  // the reason's name in the counters
	open   bool    // the session was open
	last   string  // the last bytes for the peer contain this
}{
	{"version 2 at once", "", "02", protocol, "protocol_error", false, ""},
	{"version 2 later", "", pingPacket + "02", malformed, "protocol_error", true, "ping"},
	{"a packet of type 3", "", "01000300 00000001 0000 00000000 0000", malformed, "protocol_error", true, ""},
	{"compression 3", "", "01030100 00000001 0000 00000000 0000", malformed, "protocol_error", true, ""},
	{"a payload of 4 GiB", "", "01000100 00000001 0000 ffffffff 0000", tooLarge, "too_large", true, ""},
	{"lengths with a sum that overflows", "", "01000100 00000001 ffff ffffffff 0000", tooLarge, "too_large", true, ""},
	{"one byte too long", "", "01000100 00000001 0001 00100000 0000", tooLarge, "too_large", true, ""},
	{"garbage", "EHLO localhost\r\n", "", protocol, "protocol_error", false, ""},
	{"garbage before an upgrade", "\r\n" + upgradeRequest, "", protocol, "protocol_error", false, ""},
	{"an upgrade of another kind", "POST /ws HTTP/1.1\r\n\r\n", "", protocol, "protocol_error", false, ""},
	{"no upgrade at all", "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", "", protocol, "protocol_error", false, "HTTP/1.1 400"},
	{"an unknown path", strings.Replace(upgradeRequest, "/ws", "/else", 1), "", protocol, "protocol_error", false, "HTTP/1.1 404"},
	{"an endless request", "GET /ws HTTP/1.1\r\nX: " + strings.Repeat("x", 17<<10), "", protocol, "protocol_error", false, "HTTP/1.1 431"},
	{"an unmasked frame", upgradeRequest, "82 14" + pingPacket, protocol, "protocol_error", true, "\x88"},
	{"reserved bits", upgradeRequest, "f2 94 00000000" + pingPacket, protocol, "protocol_error", true, "\x03\xea"},
	{"text on a packet path", upgradeRequest, "81 81 00000000 61", protocol, "protocol_error", true, "\x03\xeb"},
	{"a message that is no packet", upgradeRequest, "82 81 00000000 61", protocol, "protocol_error", true, "\x03\xef"},
	{"an over-long WebSocket message", upgradeRequest, "82 ff 0000000010000000 00000000", tooLarge, "too_large", true, "\x03\xf1"},
}

// TestBadInput sends each of them in one piece and byte by byte. Its session
// ends, for the typed reason; it is counted; and the others go on.
func TestBadInput(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, dispatch engine.Dispatch) {
		for _, c := range badStreams {
			t.Run(c.name, func(t *testing.T) {
				h := new(echoHandler)
				e, addr := startEngine(t, engine.Config{Handler: h, Dispatch: dispatch, Cores: 1})
				bystander := dialTCP(t, addr)
				defer bystander.close()
				if err := bystander.ask(1, "before"); err != nil {
					t.Fatal(err)
				}
				bad := append([]byte(c.text), testkit.Unhex(c.hex)...)
				sent := 0
				for _, piece := range []int{len(bad), max(1, len(bad)/40)} {
					sent++
					got := sendUntilEnd(t, addr, bad, piece)
					if !strings.Contains(got, c.last) {
						t.Errorf("in pieces of %d: the peer got %q, which lacks %q", piece, got, c.last)
					}
				}
				if c.open {
					for _, end := range h.awaitEnds(t, sent) {
						for _, want := range c.reason {
							if !errors.Is(end.reason, want) {
								t.Errorf("ended with %v, which isn't %v", end.reason, want)
							}
						}
					}
				}
				testkit.Eventually(t, func() bool {
					stats := e.Stats()
					return stats.Closed[c.stats]+stats.Refused[c.stats] == uint64(sent) && stats.Active == 1
				}, "the ends are counted")
				if err := bystander.ask(2, "after"); err != nil {
					t.Error(err)
				}
				h.check(t)
			})
		}
	})
}

// sendUntilEnd sends b in pieces and returns all bytes from the server until it ends
// the connection.
func sendUntilEnd(t *testing.T, addr string, b []byte, piece int) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	for rest := b; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := conn.Write(rest[:n]); err != nil {
			break // the server has ended the connection
		}
		rest = rest[n:]
	}
	got, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the server doesn't end the connection; it said %q", got)
	}
	return string(got) // a reset is an end too
}

// TestBadInputQUIC is TestBadInput on QUIC: the connection ends with a code.
func TestBadInputQUIC(t *testing.T) {
	onStream := func(s string) func(*testing.T, *quic.Conn) {
		return func(t *testing.T, conn *quic.Conn) {
			stream, err := conn.OpenStream()
			if err == nil {
				_, err = stream.Write(testkit.Unhex(s))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		send   func(*testing.T, *quic.Conn)
		code   quicbridge.Code
		reason error
	}{
		{"version 2", onStream("02"), quicbridge.CodeProtocol, framing.ErrMalformed},
		{"version 2 later", onStream(pingPacket + "02"), quicbridge.CodeProtocol, framing.ErrMalformed},
		{"a payload of 4 GiB", onStream("01000100 00000001 ffff ffffffff 0000"), quicbridge.CodeTooLarge, framing.ErrTooLarge},
		{"a unidirectional stream", func(t *testing.T, conn *quic.Conn) {
			stream, err := conn.OpenUniStream()
			if err == nil {
				_, err = stream.Write(testkit.Unhex(pingPacket))
			}
			if err != nil {
				t.Fatal(err)
			}
		}, quicbridge.CodeProtocol, engine.ErrProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := new(echoHandler)
			_, addr := startEngine(t, engine.Config{Handler: h, Cores: 1})
			bystander := dialQUIC(t, addr)
			defer bystander.close()
			if err := bystander.ask(1, "before"); err != nil {
				t.Fatal(err)
			}
			bad := dialQUIC(t, addr)
			defer bad.close()
			c.send(t, bad.conn)
			var application *quic.ApplicationError
			if err := bad.cause(); !errors.As(err, &application) || !application.Remote || application.ErrorCode != c.code {
				t.Errorf("ended with %v, want code %d from the server", err, c.code)
			}
			if end := h.awaitEnds(t, 1)[0]; !errors.Is(end.reason, c.reason) {
				t.Errorf("OnClose got %v, which isn't %v", end.reason, c.reason)
			}
			if err := bystander.ask(2, "after"); err != nil {
				t.Error(err)
			}
			h.check(t)
		})
	}
}
