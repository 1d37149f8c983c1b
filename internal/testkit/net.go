package testkit

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Dial connects to addr over TCP. The connection has a deadline of Patience, and
// is closed when the test ends.
func Dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return c.(*net.TCPConn)
}

// DialFrom connects to addr from one of many local addresses, which i chooses:
// the ports of a single one may be used up by connections in TIME_WAIT. It may be
// called from any goroutine.
func DialFrom(i int, addr string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: Loopback(i)}, Timeout: Patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Write writes b at once, and fails the test if that fails.
func Write(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// Expect reads len(want) bytes, and fails the test unless they equal want.
func Expect(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("read %.100x and then: %v; want %.100x", got[:n], err, want)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %.100x, want %.100x", got, want)
	}
}

// Unhex decodes hexadecimal digits, between which there may be spaces. It panics
// on anything else, because its argument is a constant of a test.
func Unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// HostPort returns a URL's host:port.
func HostPort(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	addr, _, _ := strings.Cut(rest, "/")
	return addr
}
