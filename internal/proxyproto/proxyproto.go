// Package proxyproto parses the headers of the PROXY protocol, versions 1 and 2
// (haproxy's proxy-protocol.txt). It consists of pure functions over byte slices:
// an event loop gets a header in parts, can't wait for the rest, and must
// distinguish an incomplete header from an invalid one.
//
// github.com/pires/go-proxyproto (tried with v0.15.0; v0.16.0 requires a newer Go
// than this module) can't do that. It reads from a bufio.Reader, and fails on a
// part of a header, for version 1 with the same error as on an invalid one. Its
// caller would have to find the header's end, which is half of this package. It
// also differs on whole headers. It refuses PROXY without an address family in
// version 2, although the specification allows it, and LOCAL with an unknown
// family. It bounds version 2 by a package variable (4,096 bytes), which any other
// importer in the program may change. It allocates 14 times for a header; Parse
// allocates at most four times for version 1, and never for version 2.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// Sizes in bytes, of haproxy's proxy-protocol.txt sections 2.1 and 2.2.
const (
	v1Prefix    = "PROXY "
	v1Max       = 107 // with CR LF
	v2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	v2Fixed     = 16  // signature, command, family, length
	v2MaxRest   = 536 // addresses and extensions
	v2Inet      = 12  // two IPv4 addresses and two ports
	v2Inet6     = 36
	v2Unix      = 216
)

var errNoHeader = errors.New("neither version's signature")

// Parse looks for a PROXY header of either version at the start of b. n is its
// length in bytes, 0 if b holds only a part of one. src is the TCP address of the
// proxy's client, the zero AddrPort if the header has none. Parse needs at most the
// longest header: 107 bytes (version 1) or 16 + 536 (version 2). An error is final.
// Parse does not keep b.
func Parse(b []byte) (src netip.AddrPort, n int, err error) {
	switch {
	case hasPrefix(b, v2Signature):
		return parseV2(b)
	case hasPrefix(b, v1Prefix):
		return parseV1(b)
	}
	return netip.AddrPort{}, 0, errNoHeader
}

// hasPrefix reports whether b begins with prefix, or is a prefix of it.
func hasPrefix(b []byte, prefix string) bool {
	k := min(len(b), len(prefix))
	return string(b[:k]) == prefix[:k]
}

func parseV1(b []byte) (src netip.AddrPort, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), v1Max)], '\n')
	if end < 0 {
		if len(b) >= v1Max {
			return src, 0, errors.New("version 1: no end of line in 107 bytes")
		}
		return src, 0, nil
	}
	n = end + 1
	if end < len(v1Prefix) || b[end-1] != '\r' {
		return src, 0, errors.New("version 1: the line doesn't end in CR LF")
	}
	fields := strings.Split(string(b[len(v1Prefix):end-1]), " ")
	switch fields[0] {
	case "UNKNOWN":
		return src, n, nil // "the receiver must ignore anything presented before the CRLF"
	case "TCP4", "TCP6":
	default:
		return src, 0, errors.New("version 1: neither TCP4, TCP6 nor UNKNOWN")
	}
	if len(fields) != 5 {
		return src, 0, errors.New("version 1: not two addresses and two ports")
	}
	var ok [2]bool
	src, ok[0] = parseV1Addr(fields[0], fields[1], fields[3])
	_, ok[1] = parseV1Addr(fields[0], fields[2], fields[4])
	if !ok[0] || !ok[1] {
		return netip.AddrPort{}, 0, errors.New("version 1: a wrong address or port")
	}
	return src, n, nil
}

func parseV1Addr(family, addr, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, false
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(p, 10) != port {
		return netip.AddrPort{}, false // a sign, a leading zero
	}
	// An IPv4-mapped address is the IPv4 address.
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

func parseV2(b []byte) (src netip.AddrPort, n int, err error) {
	// Each byte is checked as soon as it has arrived.
	local := false
	if len(b) > 12 {
		if b[12]>>4 != 2 {
			return src, 0, errors.New("version 2: another version")
		}
		switch b[12] & 0xf {
		case 0:
			local = true
		case 1:
		default:
			return src, 0, errors.New("version 2: neither LOCAL nor PROXY")
		}
	}
	if len(b) > 13 && !local && (b[13]>>4 > 3 || b[13]&0xf > 2) {
		return src, 0, errors.New("version 2: a family or protocol that isn't defined")
	}
	if len(b) < v2Fixed {
		return src, 0, nil
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case size > v2MaxRest:
		return src, 0, errors.New("version 2: longer than 536 bytes")
	case !local && size < [...]int{0, v2Inet, v2Inet6, v2Unix}[b[13]>>4]:
		return src, 0, errors.New("version 2: too short for its addresses")
	case len(b) < v2Fixed+size:
		return src, 0, nil
	}
	n = v2Fixed + size
	if local {
		return src, n, nil // family and addresses are to be ignored
	}
	rest := b[v2Fixed:n]
	switch b[13] {
	case 0x11: // TCP over IPv4
		src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
	case 0x21: // TCP over IPv6
		src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:]))
	}
	return src, n, nil
}
