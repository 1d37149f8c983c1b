package wsupgrade

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// TestRequestEnd finds the end of a request for every cut, and reads nothing after
// it.
func TestRequestEnd(t *testing.T) {
	head := request("/ws")
	stream := append(bytes.Clone(head), "\r\n\r\nmore"...)
	for cut := range len(head) {
		if n, err := requestEnd(stream[:cut], 0); n != 0 || err != nil {
			t.Fatalf("%d bytes of a request: %d, %v", cut, n, err)
		}
		for _, end := range []int{len(head), len(stream)} {
			if n, err := requestEnd(stream[:end], cut); n != len(head) || err != nil {
				t.Fatalf("cut at %d: %d, %v; want %d", cut, n, err, len(head))
			}
		}
	}
}

func TestRequestEndRefuses(t *testing.T) {
	long := "GET /ws HTTP/1.1\r\nCookie: " + strings.Repeat("a", maxHandshake)
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"a packet":           {"\x01\x00\x01\x00", http.StatusBadRequest},
		"a TLS hello":        {"\x16\x03\x01\x02\x00", http.StatusBadRequest},
		"lower case":         {"get / HTTP/1.1\r\n", http.StatusBadRequest},
		"a space first":      {" GET / HTTP/1.1\r\n", http.StatusBadRequest},
		"an endless method":  {strings.Repeat("G", maxMethod), http.StatusBadRequest},
		"LF without CR":      {"GET / HTTP/1.1\nHost", http.StatusBadRequest},
		"LF LF":              {"GET / HTTP/1.1\r\nHost: a\r\n\n", http.StatusBadRequest},
		"an endless line":    {long, http.StatusRequestHeaderFieldsTooLarge},
		"an end after 16 Ki": {long + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := requestEnd([]byte(tc.head), 0)
			var refused *HandshakeError
			if n != 0 || !errors.As(err, &refused) || refused.Status != tc.status {
				t.Errorf("%d, %v; want HTTP %d", n, err, tc.status)
			}
		})
	}
}

// TestRequestEndBound takes a request of 16 KiB and none of a byte more.
func TestRequestEndBound(t *testing.T) {
	pad := func(size int) []byte {
		start := "GET /ws HTTP/1.1\r\nCookie: "
		return []byte(start + strings.Repeat("a", size-len(start)-len(headEnd)) + headEnd)
	}
	if n, err := requestEnd(pad(maxHandshake), 0); n != maxHandshake || err != nil {
		t.Errorf("16 KiB: %d, %v", n, err)
	}
	if n, err := requestEnd(pad(maxHandshake+1), 0); n != 0 || !errors.Is(err, errHeadTooLarge) {
		t.Errorf("16 KiB and a byte: %d, %v", n, err)
	}
}

func TestCheckHead(t *testing.T) {
	const start = "GET /ws HTTP/1.1\r\n"
	for lines, want := range map[string]error{
		"":                           nil,
		"Host: a\r\nX-Any: b\tc\r\n": nil,
		"X-Empty:\r\n":               nil,
		"no colon\r\n":               errHeaderLine,
		": no name\r\n":              errHeaderLine,
		"Host : a\r\n":               errHeaderLine,
		"Host: a\r\n folded\r\n":     errHeaderLine,
		"Host: a\rb\r\n":             errHeaderLine,
		"Host: a\x00b\r\n":           errHeaderLine,
		"Host: a\x7f\r\n":            errHeaderLine,
		"H\x80st: a\r\n":             errHeaderLine,
		"Host: a\r\nhost: b\r\n":     errHeaderTwice,
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n":                                                    errHeaderTwice,
		"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n":                errHeaderTwice,
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n":                                                               nil,
		"Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \r\n":                                                           nil,
		"Sec-WebSocket-Key: \r\n":                                                                                       errBadKey,
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n":                                                                 errBadKey,
		"Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n":                                                               errBadKey,
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n":                                                               errBadKey, // 17 bytes
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy\r\n":                                                               errBadKey, // 18 bytes
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b\r\n": nil,
	} {
		if _, _, err := checkHead([]byte(start + lines + "\r\n")); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", lines, err, want)
		}
	}
}
