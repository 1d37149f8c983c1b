package wsupgrade

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
)

const (
	// maxHandshake bounds a request, and a response, in bytes, including the empty
	// line at its end.
	maxHandshake = 16 << 10

	// maxMethod bounds a request's method in bytes. It is longer than every
	// registered method.
	maxMethod = 24

	// keySize is the size in bytes of a decoded Sec-WebSocket-Key.
	keySize = 16
)

// headEnd is the end of the last line and the empty line.
const headEnd = "\r\n\r\n"

var (
	errNotHTTP       = &HandshakeError{Status: http.StatusBadRequest, Reason: "not an HTTP request"}
	errBareLineFeed  = &HandshakeError{Status: http.StatusBadRequest, Reason: "line that doesn't end in CR LF"}
	errHeadTooLarge  = &HandshakeError{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "request above 16 KiB"}
	errHeaderLine    = &HandshakeError{Status: http.StatusBadRequest, Reason: "malformed header line"}
	errMalformed     = &HandshakeError{Status: http.StatusBadRequest, Reason: "malformed request"}
	errHeaderTwice   = &HandshakeError{Status: http.StatusBadRequest, Reason: "duplicate header that may appear only once"}
	errBadKey        = &HandshakeError{Status: http.StatusBadRequest, Reason: "Sec-WebSocket-Key that is not 16 bytes in base64"}
	errRequestedBody = &HandshakeError{Status: http.StatusBadRequest, Reason: "upgrade request with a body"}
)

// requestEnd returns the size in bytes of the request at the start of b, or 0 if it
// isn't complete. It searches only the bytes after the first seen ones, so that a
// request in single bytes costs linear time.
func requestEnd(b []byte, seen int) (n int, err error) {
	if !methodStart(b) {
		return 0, errNotHTTP
	}
	head := b[:min(len(b), maxHandshake)]
	for at := min(max(seen, 0), len(head)); ; {
		i := bytes.IndexByte(head[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		if at < 2 || head[at-2] != '\r' {
			return 0, errBareLineFeed
		}
		if bytes.HasSuffix(head[:at], []byte(headEnd)) {
			return at, nil
		}
	}
	if len(b) >= maxHandshake {
		return 0, errHeadTooLarge
	}
	return 0, nil
}

// methodStart reports whether b may be the start of an HTTP request: a method's
// letters and a space. So a peer with another protocol is refused at once.
func methodStart(b []byte) bool {
	for i, ch := range b[:min(len(b), maxMethod)] {
		if ch == ' ' {
			return i > 0
		}
		if ch < 'A' || ch > 'Z' {
			return false
		}
	}
	return len(b) < maxMethod
}

// checkHead checks the parts of a whole request head that ws.Upgrader does not: the
// form of the header lines, and the headers that may appear only once. It returns the
// values of Origin and Host.
func checkHead(head []byte) (origin, host string, err error) {
	_, lines, _ := bytes.Cut(head[:len(head)-len("\r\n")], []byte("\r\n"))
	var hosts, keys, versions, origins int
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		// RFC 9112 section 5.1: "No whitespace is allowed between the field
		// name and colon"; section 5.2 lets a server refuse folded lines.
		if !ok || len(name) == 0 || bytes.ContainsFunc(name, notToken) || !isText(value) {
			return "", "", errHeaderLine
		}
		switch {
		case strings.EqualFold(string(name), "Host"):
			hosts++
			host = string(bytes.Trim(value, " \t"))
		case strings.EqualFold(string(name), "Origin"):
			origins++
			origin = string(bytes.Trim(value, " \t"))
		case strings.EqualFold(string(name), "Sec-WebSocket-Version"):
			versions++
		case strings.EqualFold(string(name), "Sec-WebSocket-Key"):
			if keys++; !isKey(bytes.Trim(value, " \t")) {
				return "", "", errBadKey
			}
		}
	}
	// RFC 9112 section 3.2 for Host; RFC 6455 sections 11.3.1 and 11.3.5: the
	// header "MUST NOT appear more than once in an HTTP request".
	if hosts > 1 || keys > 1 || versions > 1 || origins > 1 {
		return "", "", errHeaderTwice
	}
	return origin, host, nil
}

// isKey reports whether v is a key as RFC 6455 section 4.1 requires it: "a nonce
// consisting of a randomly selected 16-byte value that has been base64-encoded".
func isKey(v []byte) bool {
	var key [keySize + 2]byte // DecodedLen of the encoded key
	if len(v) != base64.StdEncoding.EncodedLen(keySize) {
		return false
	}
	n, err := base64.StdEncoding.Decode(key[:], v)
	return err == nil && n == keySize
}

func notToken(r rune) bool { return !isToken(r) }

// isToken reports whether r may be in a header's name (RFC 9110 section 5.6.2).
func isToken(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' ||
		strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// isText reports whether v may be a header's value (RFC 9110 section 5.5): no
// control character but the tab.
func isText(v []byte) bool {
	for _, ch := range v {
		if ch < ' ' && ch != '\t' || ch == 0x7f {
			return false
		}
	}
	return true
}
