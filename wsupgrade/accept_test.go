package wsupgrade

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// TestAcceptExample is RFC 6455 section 1.2's handshake.
func TestAcceptExample(t *testing.T) {
	s, c := &fakeSession{}, serverCodec()
	if !c.NeedsHandshake() {
		t.Fatal("a new codec is open")
	}
	o := feed(t, c, s, request("/ws"))
	if o.err != nil || o.consumed != len(request("/ws")) || s.established != 1 || c.NeedsHandshake() {
		t.Fatalf("%+v, established %d times", o, s.established)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(s.control)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "websocket" ||
		res.Header.Get("Connection") != "Upgrade" || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("response %q", s.control)
	}
	if !bytes.HasSuffix(s.control, []byte("\r\n\r\n")) {
		t.Errorf("response %q goes on", s.control)
	}
}

// TestAcceptLeavesNegotiationOut answers offers of extensions and subprotocols
// with neither.
func TestAcceptLeavesNegotiationOut(t *testing.T) {
	s := &fakeSession{}
	o := feed(t, serverCodec(), s, edit(request("/ws"), "Origin: http://server.example.com",
		"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
	if o.err != nil || s.established != 1 {
		t.Fatal(o.err)
	}
	for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
		if strings.Contains(string(s.control), name) {
			t.Errorf("the response names %s: %q", name, s.control)
		}
	}
}

// edit replaces a part of a request, which must be there.
func edit(head []byte, old, new string) []byte {
	if !bytes.Contains(head, []byte(old)) {
		panic("no " + old)
	}
	return bytes.Replace(head, []byte(old), []byte(new), 1)
}

func TestAcceptTargets(t *testing.T) {
	for target, plain := range map[string]bool{
		"/ws":                     false,
		"/ws?token=1&x=%2f":       false,
		"/%77s":                   false,
		"/echo":                   true,
		"http://example.com/echo": true,
		"ws://example.com/ws?a":   false,
	} {
		s, c := &fakeSession{}, serverCodec()
		if o := feed(t, c, s, request(target)); o.err != nil || s.established != 1 || c.plain != plain {
			t.Errorf("%s: %v, plain %v", target, o.err, c.plain)
		}
	}
}

// TestAcceptTolerates accepts the requests of browsers and proxies.
func TestAcceptTolerates(t *testing.T) {
	for name, head := range map[string][]byte{
		"token list":     edit(request("/ws"), "Connection: Upgrade", "Connection: keep-alive, upgrade"),
		"other case":     edit(request("/ws"), "Upgrade: websocket", "uPGRADE: WebSocket"),
		"no origin":      edit(request("/ws"), "Origin: http://server.example.com\r\n", ""),
		"empty body":     edit(request("/ws"), "Origin: http://server.example.com", "Content-Length: 0"),
		"no white space": edit(request("/ws"), "Host: ", "Host:"),
		"long cookie":    edit(request("/ws"), "Origin: ", "Cookie: "+strings.Repeat("a", 10<<10)),
	} {
		s := &fakeSession{}
		if o := feed(t, serverCodec(), s, head); o.err != nil || s.established != 1 {
			t.Errorf("%s: %v", name, o.err)
		}
	}
}

// TestAcceptRefuses answers each broken request with its HTTP status, once, and
// never opens the session.
func TestAcceptRefuses(t *testing.T) {
	good := request("/ws")
	for name, tc := range map[string]struct {
		head   []byte
		status int
	}{
		"unknown path":      {request("/nowhere"), http.StatusNotFound},
		"longer path":       {request("/ws/"), http.StatusNotFound},
		"asterisk":          {request("*"), http.StatusNotFound},
		"malformed target":  {request("ws"), http.StatusBadRequest},
		"bad escape":        {request("/%zz"), http.StatusBadRequest},
		"HTTP/1.0":          {edit(good, "HTTP/1.1", "HTTP/1.0"), http.StatusHTTPVersionNotSupported},
		"HTTP/2.0":          {edit(good, "HTTP/1.1", "HTTP/2.0"), http.StatusHTTPVersionNotSupported},
		"no version at all": {edit(good, " HTTP/1.1", ""), http.StatusBadRequest},
		"POST":              {edit(good, "GET", "POST"), http.StatusMethodNotAllowed},
		"POST with a body": {edit(edit(good, "GET", "POST"), "Origin: http://server.example.com", "Content-Length: 4"),
			http.StatusMethodNotAllowed},
		"GET with a body":    {edit(good, "Origin: http://server.example.com", "Content-Length: 4"), http.StatusBadRequest},
		"chunked":            {edit(good, "Origin: http://server.example.com", "transfer-encoding: chunked"), http.StatusBadRequest},
		"no host":            {edit(good, "Host: server.example.com\r\n", ""), http.StatusBadRequest},
		"no upgrade":         {edit(good, "Upgrade: websocket\r\n", ""), http.StatusBadRequest},
		"other upgrade":      {edit(good, "Upgrade: websocket", "Upgrade: h2c"), http.StatusBadRequest},
		"no connection":      {edit(good, "Connection: Upgrade\r\n", ""), http.StatusBadRequest},
		"other connection":   {edit(good, "Connection: Upgrade", "Connection: keep-alive"), http.StatusBadRequest},
		"no key":             {edit(good, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), http.StatusBadRequest},
		"short key":          {edit(good, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), http.StatusBadRequest},
		"no version":         {edit(good, "Sec-WebSocket-Version: 13\r\n", ""), http.StatusBadRequest},
		"older version":      {edit(good, "Version: 13", "Version: 8"), http.StatusUpgradeRequired},
		"malformed header":   {edit(good, "Origin: ", "Origin "), http.StatusBadRequest},
		"above 16 KiB":       {edit(good, "Origin: ", "Origin: "+strings.Repeat("a", maxHandshake)), http.StatusRequestHeaderFieldsTooLarge},
		"not HTTP":           {[]byte("\x01\x00\x00\x00hello"), http.StatusBadRequest},
		"browser's visit":    {[]byte("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n"), http.StatusBadRequest},
		"browser's favicon":  {[]byte("GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n"), http.StatusNotFound},
		"line feed only end": {[]byte("GET /ws HTTP/1.1\nHost: a\n\n"), http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := &fakeSession{}, serverCodec()
			o := feed(t, c, s, tc.head)
			var refused *HandshakeError
			if !errors.As(o.err, &refused) || !errors.Is(o.err, engine.ErrProtocol) || errors.Is(o.err, engine.ErrRefused) {
				t.Fatalf("error %v", o.err)
			}
			if s.established != 0 || len(s.control) != 0 || !c.NeedsHandshake() {
				t.Errorf("established %d times, sent %q", s.established, s.control)
			}
			res := readResponse(t, c.Goodbye(nil, o.err))
			if res.StatusCode != tc.status || refused.Status != tc.status || !res.Close {
				t.Errorf("HTTP %d (%v), close %v; want %d", res.StatusCode, o.err, res.Close, tc.status)
			}
		})
	}
}

// TestAcceptKeepsWhatFollows takes not a byte of the first frames, which may
// come with the request.
func TestAcceptKeepsWhatFollows(t *testing.T) {
	s, c := &fakeSession{}, serverCodec()
	o := feed(t, c, s, append(request("/echo"), fromClient(ws.OpText, true, "early")...))
	if o.err != nil || len(o.messages) != 1 || string(o.messages[0].Payload) != "early" {
		t.Fatalf("%+v", o)
	}
}

// TestAcceptOnEndingSession doesn't open a session that can't be answered.
func TestAcceptOnEndingSession(t *testing.T) {
	s, c := &fakeSession{fail: engine.ErrShutdown}, serverCodec()
	o := feed(t, c, s, request("/ws"))
	if !errors.Is(o.err, engine.ErrShutdown) || s.established != 0 || !c.NeedsHandshake() {
		t.Errorf("%v, established %d times", o.err, s.established)
	}
}

func BenchmarkAccept(b *testing.B) {
	s, p, head, limits := &fakeSession{}, Path("/ws"), request("/ws"), testLimits()
	b.ReportAllocs()
	for b.Loop() {
		s.control = s.control[:0]
		if _, _, err := newServerCodec(p, limits).decode(s, head, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
