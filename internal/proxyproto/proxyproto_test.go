package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// header2 makes a version 2 header.
func header2(command, family byte, body []byte) []byte {
	b := append([]byte(v2Signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// inetBody is the address block of TCP over IPv4.
func inetBody(src, dst netip.AddrPort) []byte {
	b := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return binary.BigEndian.AppendUint16(b, dst.Port())
}

var (
	inet4Body = inetBody(netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("192.0.2.8:80"))
	inet6Body = inetBody(netip.MustParseAddrPort("[2001:db8::1]:65535"), netip.MustParseAddrPort("[2001:db8::2]:1"))
	good      = []struct {
		header string
		src    string // "" for none
	}{
		{"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n", "192.0.2.7:1234"},
		{"PROXY TCP6 2001:db8::1 2001:db8::2 0 80\r\n", "[2001:db8::1]:0"},
		{"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::2 5 80\r\n", "192.0.2.7:5"},
		{"PROXY UNKNOWN\r\n", ""},
		{"PROXY UNKNOWN and whatever follows\r\n", ""},
		{"PROXY UNKNOWN " + strings.Repeat("f", 107-16) + "\r\n", ""},
		{string(header2(0x21, 0x11, inet4Body)), "192.0.2.7:1234"},
		{string(header2(0x21, 0x11, append(bytes.Clone(inet4Body), "\x04\x00\x03abc"...))), "192.0.2.7:1234"},
		{string(header2(0x21, 0x21, inet6Body)), "[2001:db8::1]:65535"},
		{string(header2(0x20, 0x00, nil)), ""},               // LOCAL
		{string(header2(0x20, 0x11, inet4Body)), ""},         // LOCAL with an address that means nothing
		{string(header2(0x20, 0xff, nil)), ""},               // LOCAL: the family is to be skipped
		{string(header2(0x21, 0x00, nil)), ""},               // UNSPEC
		{string(header2(0x21, 0x12, inet4Body)), ""},         // UDP
		{string(header2(0x21, 0x31, make([]byte, 216))), ""}, // Unix
		{string(header2(0x21, 0x11, make([]byte, 536))), "0.0.0.0:0"},
	}
	bad = []string{
		"GET / HTTP/1.1\r\n",
		"\x01\x00",
		"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 1234\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80 \r\n",
		"PROXY TCP4  192.0.2.7 192.0.2.8 1234 80\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 65536 80\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 01 80\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 +1 80\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.8 1 -80\r\n",
		"PROXY TCP4 ::1 192.0.2.8 1 80\r\n",
		"PROXY TCP6 192.0.2.7 192.0.2.8 1 80\r\n",
		"PROXY TCP6 fe80::1%eth0 ::1 1 80\r\n",
		"PROXY TCP4 192.0.2.256 192.0.2.8 1 80\r\n",
		"PROXY UDP4 192.0.2.7 192.0.2.8 1 80\r\n",
		"PROXY \r\n",
		"PROXY \n",
		"PROXY UNKNOWN " + strings.Repeat("f", 107-15) + "\r\n",
		strings.Repeat("PROXY ", 18)[:107],
		string(header2(0x11, 0x11, inet4Body)), // version 1
		string(header2(0x22, 0x11, inet4Body)), // no such command
		string(header2(0x21, 0x41, inet4Body)), // no such family
		string(header2(0x21, 0x13, inet4Body)), // no such protocol
		string(header2(0x21, 0x11, inet4Body[:11])),
		string(header2(0x21, 0x21, inet6Body[:35])),
		string(header2(0x21, 0x31, make([]byte, 215))),
		string(header2(0x20, 0x00, make([]byte, 537))),
	}
)

// TestAnyCut: an incomplete header needs more bytes, and the bytes after a header
// are left.
func TestAnyCut(t *testing.T) {
	for _, c := range good {
		for cut := range c.header {
			if src, n, err := Parse([]byte(c.header[:cut])); err != nil || n != 0 || src.IsValid() {
				t.Fatalf("%q cut at %d: %v, %d, %v", c.header, cut, src, n, err)
			}
		}
		src, n, err := Parse([]byte(c.header + "more"))
		if err != nil || n != len(c.header) {
			t.Errorf("%q: %d of %d, %v", c.header, n, len(c.header), err)
		}
		if want, _ := netip.ParseAddrPort(c.src); src != want {
			t.Errorf("%q: %v, want %q", c.header, src, c.src)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, header := range bad {
		src, n, err := Parse([]byte(header))
		if n != 0 || src.IsValid() || err == nil {
			t.Errorf("%q: %v, %d, %v", header, src, n, err)
		}
	}
}

// TestAllocations: only version 1, which is text, needs any.
func TestAllocations(t *testing.T) {
	for _, c := range good {
		b := []byte(c.header)
		most := 0.0
		if hasPrefix(b, v1Prefix) {
			most = 4 // the line, its fields, the ports again
		}
		if got := testing.AllocsPerRun(10, func() { _, _, _ = Parse(b) }); got > most {
			t.Errorf("%q: %v allocations, at most %v", c.header, got, most)
		}
	}
}

// FuzzParse checks that the parser stays within its bounds and judges a
// header alike however it arrives.
func FuzzParse(f *testing.F) {
	for _, c := range good {
		f.Add([]byte(c.header))
	}
	for _, header := range bad {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		src, n, err := Parse(b)
		switch {
		case n < 0 || n > len(b) || n > v2Fixed+v2MaxRest:
			t.Fatal(n, " bytes")
		case err != nil && (n != 0 || src.IsValid()):
			t.Fatal(src, n, err)
		case err == nil && n == 0 && len(b) > v2Fixed+v2MaxRest:
			t.Fatal("asks for more than the longest header")
		case src.IsValid() && src.Addr().Is4In6():
			t.Fatal("one peer, two addresses: ", src)
		}
		if n == 0 {
			return
		}
		for cut := range n {
			if _, k, err := Parse(b[:cut]); k != 0 || err != nil {
				t.Fatal("cut at ", cut, ": ", k, err)
			}
		}
		if again, k, err := Parse(b[:n]); again != src || k != n || err != nil {
			t.Fatal("without what follows: ", again, k, err)
		}
	})
}
