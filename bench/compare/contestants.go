package main

import (
	"fmt"
	"slices"
)

// A role is the part of a contestant in the comparison.
type role int

const (
	rival role = iota
	floor      // the reference: the rates of the others are fractions of its rate
	ours
)

// A contestant is a server to start, and the URL to load.
type contestant struct {
	name    string
	program string // of the build directory, or an absolute path
	args    []string
	role    role

	scheme, path string // of the URL in its ready line that is loaded
	raw          bool   // it returns all bytes unchanged

	// uncounted is set if the server sends or receives with system calls that the
	// kernel doesn't count as read or write, such as sendmsg.
	uncounted bool
}

// A scenario is a shape of load.
type scenario struct {
	sessions int
	streams  int  // of each session
	inFlight int  // requests on each stream
	half     bool // an open loop at half of the best rival's rate in a closed loop
	separate bool // each session is a client of its own: bench.Config.Separate

	// scheme selects the contestants with this scheme, if a group has several.
	scheme string
}

func closed(sessions, inFlight int) scenario {
	return scenario{sessions: sessions, streams: 1, inFlight: inFlight}
}

func (s scenario) String() string {
	switch {
	case s.scheme != "":
		return fmt.Sprintf("%s, %d x %d", schemeNames[s.scheme], s.sessions, s.inFlight)
	case s.half:
		return fmt.Sprintf("%d sessions, an open loop at half of the best rival's rate with %d a session", s.sessions, s.inFlight)
	case s.streams > 1:
		return fmt.Sprintf("%d x %d streams x %d", s.sessions, s.streams, s.inFlight)
	}
	return fmt.Sprintf("%d x %d", s.sessions, s.inFlight)
}

// schemeNames are the titles of the schemes that a group has several of.
var schemeNames = map[string]string{"tcp": "TCP", "ws": "WebSocket", "quic": "QUIC, a stream a packet"}

// A group is a table for each of its scenarios.
type group struct {
	name        string // of --group, and of its part of the results
	title       string
	about       string
	named       string // the rival that has a column of its own; empty for none
	contestants []contestant
	scenarios   []scenario
	goals       []goal
	skipped     []skip
}

// A skip is a contestant that is not measured, and why.
type skip struct{ name, reason string }

// in returns the contestants that take part in sc.
func (g *group) in(sc scenario) []contestant {
	return slices.DeleteFunc(slices.Clone(g.contestants), func(c contestant) bool { return !sc.has(c) })
}

// has reports whether c takes part in s.
func (s scenario) has(c contestant) bool { return s.scheme == "" || s.scheme == c.scheme }

// Names that goals refer to.
const (
	inline    = "Millrace, inline"
	workers   = "Millrace, workers"
	goNet     = "Go net + bufio"
	gws       = "gws"
	goTLS     = "Go net + crypto/tls"
	coalesce  = "quic-go, coalescing"
	writeEach = "quic-go, a Write each"
)

// millrace is the echo server in both of its modes.
func millrace(scheme, path string, raw bool, args ...string) []contestant {
	c := contestant{program: "echo", role: ours, scheme: scheme, path: path, raw: raw}
	one, other := c, c
	one.name, one.args = inline, append([]string{"--dispatch", "inline"}, args...)
	other.name, other.args = workers, append([]string{"--dispatch", "workers"}, args...)
	return []contestant{one, other}
}

var tcpGroup = group{
	name: "tcp", title: "TCP, packets", named: goNet,
	about: "A Request of 4 bytes comes back as its Response. The floor echoes bytes without decoding packets.",
	contestants: append([]contestant{
		{name: "floor: raw epoll, no framing", program: "floor", role: floor, scheme: "tcp", raw: true},
		{name: goNet, program: "gonet", scheme: "tcp"},
		{name: "gnet", program: "gnet", scheme: "tcp"},
		{name: "nbio", program: "nbio", scheme: "tcp"},
		{name: "netpoll", program: "netpoll", scheme: "tcp", uncounted: true},
	}, millrace("tcp", "", false)...),
	scenarios: []scenario{closed(8, 1000), closed(100, 16), closed(8, 1), closed(100, 1), closed(1000, 1)},
	goals: []goal{
		{1, closed(8, 1000), inline, rate, toFloor, 0.90},
		{1, closed(8, 1000), inline, rate, toNamed, 2.4},
		{2, closed(8, 1000), workers, rate, toFloor, 0.50},
		{2, closed(8, 1000), workers, rate, toNamed, 1.4},
		{3, closed(100, 1), inline, rate, toFloor, 0.95},
		{3, closed(100, 1), workers, rate, toFloor, 0.95},
		{3, closed(1000, 1), inline, rate, toFloor, 0.95},
		{3, closed(1000, 1), workers, rate, toFloor, 0.95},
		{3, closed(100, 1), inline, cpu, toBest, 1},
		{3, closed(100, 1), workers, cpu, toBest, 1},
		{3, closed(1000, 1), inline, cpu, toBest, 1},
		{3, closed(1000, 1), workers, cpu, toBest, 1},
		{3, closed(8, 1), workers, cpu, toInline, 1.05},
		{3, closed(100, 1), workers, cpu, toInline, 1.05},
		{3, closed(1000, 1), workers, cpu, toInline, 1.05},
	},
}

var wsGroup = group{
	name: "ws", title: "WebSocket, binary messages", named: gws,
	about: "A message of 20 bytes comes back unchanged.",
	contestants: append([]contestant{
		{name: gws, program: "gws", scheme: "ws", path: "/", raw: true},
		{name: "gorilla", program: "gorilla", scheme: "ws", path: "/", raw: true},
		{name: "coder", program: "coder", scheme: "ws", path: "/", raw: true},
		{name: "nbio", program: "nbiows", scheme: "ws", path: "/", raw: true},
		{name: "gobwas + bufio", program: "gobwas", scheme: "ws", path: "/", raw: true},
	}, millrace("ws", "/echo", true)...),
	scenarios: []scenario{closed(8, 1000), closed(100, 1), closed(1000, 1)},
	goals: []goal{
		{4, closed(8, 1000), inline, rate, toNamed, 30},
		{4, closed(8, 1000), workers, rate, toNamed, 30},
		{5, closed(100, 1), inline, cpu, toNamed, 0.5},
		{5, closed(100, 1), workers, cpu, toNamed, 0.5},
		{5, closed(1000, 1), inline, cpu, toNamed, 0.5},
		{5, closed(1000, 1), workers, cpu, toNamed, 0.5},
		{3, closed(100, 1), workers, cpu, toInline, 1.05},
		{3, closed(1000, 1), workers, cpu, toInline, 1.05},
		{4, closed(8, 1000), inline, rate, toUWS, 1},
		{4, closed(8, 1000), workers, rate, toUWS, 1},
		{4, closed(8, 1000), inline, cpu, toUWS, 1},
		{4, closed(8, 1000), workers, cpu, toUWS, 1},
		{5, closed(100, 1), inlineOne, cpu, toUWS, 1},
		{5, closed(100, 1), workersOne, cpu, toUWS, 1},
		{5, closed(1000, 1), inlineOne, cpu, toUWS, 1},
		{5, closed(1000, 1), workersOne, cpu, toUWS, 1},
	},
}

var tlsGroup = group{
	name: "tls", title: "TLS 1.3, packets", named: goTLS,
	about: "As over TCP, with TLS.",
	contestants: append([]contestant{
		{name: goTLS, program: "gonet", scheme: "tls", args: []string{"--tls"}},
	}, millrace("tls", "", false, "--tls-self-signed")...),
	scenarios: []scenario{closed(8, 1000), closed(100, 1)},
	goals: []goal{
		{13, closed(8, 1000), inline, rate, toNamed, 1.2},
		{13, closed(8, 1000), workers, rate, toNamed, 1.2},
		{13, closed(100, 1), inline, rate, toNamed, 1.2},
		{13, closed(100, 1), workers, rate, toNamed, 1.2},
		{3, closed(100, 1), workers, cpu, toInline, 1.05},
	},
}

var oneStream, streams1, streams16 = closed(1, 256), scenario{sessions: 1, streams: 64, inFlight: 1}, scenario{sessions: 1, streams: 64, inFlight: 16}

var quicGroup = group{
	name: "quic", title: "QUIC, packets", named: coalesce,
	about: "One connection. A Request of 4 bytes comes back as its Response on the same stream.",
	contestants: append([]contestant{
		{name: coalesce, program: "quicgo", scheme: "quic", uncounted: true},
		{name: writeEach, program: "quicgo", args: []string{"--write-each"}, scheme: "quic", uncounted: true},
	}, uncounted(millrace("quic", "", false))...),
	scenarios: []scenario{oneStream, streams1, streams16},
	goals: []goal{
		{6, oneStream, inline, rate, toNamed, 1},
		{6, oneStream, workers, rate, toNamed, 1},
		{6, streams1, inline, rate, toNamed, 1},
		{6, streams1, workers, rate, toNamed, 1},
		{6, streams16, inline, rate, toNamed, 1},
		{6, streams16, workers, rate, toNamed, 1},
	},
}

func uncounted(contestants []contestant) []contestant {
	for i := range contestants {
		contestants[i].uncounted = true
	}
	return contestants
}

var halfOfSaturation = scenario{sessions: 100, streams: 1, inFlight: 1, half: true}

var openGroup = group{
	name: "open", title: "Open loop, packets over TCP", named: goNet,
	about: "The intended times are random (Poisson), and latency counts from these. All servers are offered the same rate: half of the best rival's in a closed loop.",
	contestants: append([]contestant{
		{name: goNet, program: "gonet", scheme: "tcp"},
		{name: "gnet", program: "gnet", scheme: "tcp"},
		{name: "nbio", program: "nbio", scheme: "tcp"},
		{name: "netpoll", program: "netpoll", scheme: "tcp", uncounted: true},
	}, millrace("tcp", "", false)...),
	scenarios: []scenario{halfOfSaturation},
	goals: []goal{
		{7, halfOfSaturation, inline, p99, toBest, 1},
		{7, halfOfSaturation, workers, p99, toBest, 1},
	},
}
