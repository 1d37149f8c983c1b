package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// Sizes in bytes, of haproxy's proxy-protocol.txt sections 2.1 and 2.2.
const (
	proxyV1Prefix    = "PROXY "
	proxyV1Max       = 107 // with CR LF
	proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2Fixed     = 16  // signature, command, family, length
	proxyV2MaxRest   = 536 // addresses and extensions
	proxyV2Inet      = 12  // two IPv4 addresses and two ports
	proxyV2Inet6     = 36
	proxyV2Unix      = 216
)

// parseProxyHeader looks for a PROXY header, of either version, at the start of
// b. n is its length in bytes, 0 if more are needed. src is the TCP address of whom the
// proxy speaks for, invalid if the header names none. It never looks at, nor
// waits for, more than the longest header.
func parseProxyHeader(b []byte) (src netip.AddrPort, n int, err error) {
	switch {
	case hasPrefix(b, proxyV2Signature):
		return parseProxyV2(b)
	case hasPrefix(b, proxyV1Prefix):
		return parseProxyV1(b)
	}
	return netip.AddrPort{}, 0, errNoProxyHeader
}

// hasPrefix reports whether b begins with prefix, or may when more comes.
func hasPrefix(b []byte, prefix string) bool {
	k := min(len(b), len(prefix))
	return string(b[:k]) == prefix[:k]
}

func parseProxyV1(b []byte) (src netip.AddrPort, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), proxyV1Max)], '\n')
	if end < 0 {
		if len(b) >= proxyV1Max {
			return src, 0, proxyError("version 1: no end of line in 107 bytes")
		}
		return src, 0, nil
	}
	n = end + 1
	if end < len(proxyV1Prefix) || b[end-1] != '\r' {
		return src, 0, proxyError("version 1: the line doesn't end in CR LF")
	}
	fields := strings.Split(string(b[len(proxyV1Prefix):end-1]), " ")
	switch fields[0] {
	case "UNKNOWN":
		return src, n, nil // "the receiver must ignore anything presented before the CRLF"
	case "TCP4", "TCP6":
	default:
		return src, 0, proxyError("version 1: neither TCP4, TCP6 nor UNKNOWN")
	}
	if len(fields) != 5 {
		return src, 0, proxyError("version 1: not two addresses and two ports")
	}
	var ok [2]bool
	src, ok[0] = parseProxyV1Addr(fields[0], fields[1], fields[3])
	_, ok[1] = parseProxyV1Addr(fields[0], fields[2], fields[4])
	if !ok[0] || !ok[1] {
		return netip.AddrPort{}, 0, proxyError("version 1: a wrong address or port")
	}
	return src, n, nil
}

func parseProxyV1Addr(family, addr, port string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, false
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(p, 10) != port {
		return netip.AddrPort{}, false // a sign, a leading zero
	}
	// One peer has one address, however the proxy spells it.
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

func parseProxyV2(b []byte) (src netip.AddrPort, n int, err error) {
	// Each byte is judged as soon as it is there.
	local := false
	if len(b) > 12 {
		if b[12]>>4 != 2 {
			return src, 0, proxyError("version 2: another version")
		}
		switch b[12] & 0xf {
		case 0:
			local = true
		case 1:
		default:
			return src, 0, proxyError("version 2: neither LOCAL nor PROXY")
		}
	}
	if len(b) > 13 && !local && (b[13]>>4 > 3 || b[13]&0xf > 2) {
		return src, 0, proxyError("version 2: a family or protocol that isn't defined")
	}
	if len(b) < proxyV2Fixed {
		return src, 0, nil
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case size > proxyV2MaxRest:
		return src, 0, proxyError("version 2: longer than 536 bytes")
	case !local && size < [...]int{0, proxyV2Inet, proxyV2Inet6, proxyV2Unix}[b[13]>>4]:
		return src, 0, proxyError("version 2: too short for its addresses")
	case len(b) < proxyV2Fixed+size:
		return src, 0, nil
	}
	n = proxyV2Fixed + size
	if local {
		return src, n, nil // family and addresses are to be ignored
	}
	rest := b[proxyV2Fixed:n]
	switch b[13] {
	case 0x11: // TCP over IPv4
		src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
	case 0x21: // TCP over IPv6
		src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:]))
	}
	return src, n, nil
}
