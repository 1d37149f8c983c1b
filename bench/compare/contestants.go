package main

import "fmt"

// A role says what a contestant is compared as.
type role int

const (
	rival role = iota
	floor      // what the others are given as a part of
	ours
)

// A contestant says how to start a server and where to load it.
type contestant struct {
	name    string
	program string
	args    []string
	role    role

	scheme, path string // of the URL in its ready line that is loaded
	raw          bool   // it returns the bytes as they are

	// uncounted says that it sends or receives by system calls that the kernel
	// doesn't count among read and write: sendmsg and its like.
	uncounted bool
}

// A scenario is a shape of load.
type scenario struct{ sessions, inFlight int }

func (s scenario) String() string { return fmt.Sprintf("%d x %d", s.sessions, s.inFlight) }

// A group is a table for each of its scenarios.
type group struct {
	name        string // of --group, and of its part of the results
	title       string
	about       string
	named       string // the rival that has a column of its own
	contestants []contestant
	scenarios   []scenario
	goals       []goal
}

// Names that goals refer to.
const (
	inline  = "Millrace, inline"
	workers = "Millrace, workers"
	goNet   = "Go net + bufio"
	gws     = "gws"
)

// millrace is the echo server in both of its modes.
func millrace(scheme, path string, raw bool) []contestant {
	c := contestant{program: "echo", role: ours, scheme: scheme, path: path, raw: raw}
	one, other := c, c
	one.name, one.args = inline, []string{"--dispatch", "inline"}
	other.name, other.args = workers, []string{"--dispatch", "workers"}
	return []contestant{one, other}
}

var tcpGroup = group{
	name: "tcp", title: "TCP, packets", named: goNet,
	about: "A Request of 4 bytes comes back as its Response. The floor echoes bytes and knows no packets.",
	contestants: append([]contestant{
		{name: "floor: raw epoll, no framing", program: "floor", role: floor, scheme: "tcp", raw: true},
		{name: goNet, program: "gonet", scheme: "tcp"},
		{name: "gnet", program: "gnet", scheme: "tcp"},
		{name: "nbio", program: "nbio", scheme: "tcp"},
		{name: "netpoll", program: "netpoll", scheme: "tcp", uncounted: true},
	}, millrace("tcp", "", false)...),
	scenarios: []scenario{{8, 1000}, {100, 16}, {100, 1}, {1000, 1}},
	goals: []goal{
		{1, scenario{8, 1000}, inline, rate, toFloor, 0.90},
		{1, scenario{8, 1000}, inline, rate, toNamed, 2.4},
		{2, scenario{8, 1000}, workers, rate, toFloor, 0.50},
		{2, scenario{8, 1000}, workers, rate, toNamed, 1.4},
		{3, scenario{100, 1}, inline, rate, toFloor, 0.95},
		{3, scenario{100, 1}, workers, rate, toFloor, 0.95},
		{3, scenario{1000, 1}, inline, rate, toFloor, 0.95},
		{3, scenario{1000, 1}, workers, rate, toFloor, 0.95},
		{3, scenario{100, 1}, inline, cpu, toBest, 1},
		{3, scenario{100, 1}, workers, cpu, toBest, 1},
		{3, scenario{1000, 1}, inline, cpu, toBest, 1},
		{3, scenario{1000, 1}, workers, cpu, toBest, 1},
	},
}

var wsGroup = group{
	name: "ws", title: "WebSocket, binary messages", named: gws,
	about: "A message of 20 bytes comes back as it is.",
	contestants: append([]contestant{
		{name: gws, program: "gws", scheme: "ws", path: "/", raw: true},
		{name: "gorilla", program: "gorilla", scheme: "ws", path: "/", raw: true},
		{name: "coder", program: "coder", scheme: "ws", path: "/", raw: true},
		{name: "nbio", program: "nbiows", scheme: "ws", path: "/", raw: true},
		{name: "gobwas + bufio", program: "gobwas", scheme: "ws", path: "/", raw: true},
	}, millrace("ws", "/echo", true)...),
	scenarios: []scenario{{8, 1000}, {100, 1}, {1000, 1}},
	goals: []goal{
		{4, scenario{8, 1000}, inline, rate, toNamed, 30},
		{4, scenario{8, 1000}, workers, rate, toNamed, 30},
		{5, scenario{100, 1}, inline, cpu, toNamed, 0.5},
		{5, scenario{100, 1}, workers, cpu, toNamed, 0.5},
		{5, scenario{1000, 1}, inline, cpu, toNamed, 0.5},
		{5, scenario{1000, 1}, workers, cpu, toNamed, 0.5},
	},
}

var groups = []group{tcpGroup, wsGroup}
