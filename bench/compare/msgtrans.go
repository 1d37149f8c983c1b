package main

import "slices"

// separate is a load of independent clients, as msgtrans's own client is one: each
// connection writes each packet by itself when an answer has come.
func separate(scheme string, inFlight int) scenario {
	return scenario{sessions: 100, streams: 1, inFlight: inFlight, separate: true, scheme: scheme}
}

var (
	msgtransTCP, msgtransTCP16 = separate("tcp", 1), separate("tcp", 16)
	msgtransWS, msgtransQUIC   = separate("ws", 1), separate("quic", 1)
)

// msgtransGroup has the pattern of msgtrans's client on three transports. The floor and
// the rivals of WebSocket return all bytes unchanged.
var msgtransGroup = group{
	name: "msgtrans", title: "The pattern of msgtrans's client",
	about: "Packets with a payload of 4 bytes. The load generator has goroutines for each connection, and each connection writes each " +
		"request with a system call of its own. A message of WebSocket is one packet; on QUIC, each packet has a bidirectional stream.",
	contestants: slices.Concat([]contestant{
		{name: "floor: raw epoll, no framing", program: "floor", role: floor, scheme: "tcp", raw: true},
		{name: goNet, program: "gonet", scheme: "tcp"},
		{name: "gnet", program: "gnet", scheme: "tcp"},
		{name: "nbio", program: "nbio", scheme: "tcp"},
		{name: "netpoll", program: "netpoll", scheme: "tcp", uncounted: true},
	}, millrace("tcp", "", false), []contestant{
		{name: gws, program: "gws", scheme: "ws", path: "/", raw: true},
		{name: "nbio", program: "nbiows", scheme: "ws", path: "/", raw: true},
		{name: "gobwas + bufio", program: "gobwas", scheme: "ws", path: "/", raw: true},
	}, millrace("ws", "/ws", false), []contestant{
		{name: coalesce, program: "quicgo", scheme: "quic", uncounted: true},
	}, uncounted(millrace("quic", "", false))),
	scenarios: []scenario{msgtransTCP, msgtransTCP16, msgtransWS, msgtransQUIC},
	goals: []goal{
		{3, msgtransTCP, workers, cpu, toInline, 1.05},
		{3, msgtransTCP16, workers, cpu, toInline, 1.05},
		{3, msgtransWS, workers, cpu, toInline, 1.05},
		{12, msgtransTCP, inline, cpu, toMsgtrans, 1},
		{12, msgtransTCP, workers, cpu, toMsgtrans, 1},
		{12, msgtransTCP16, inline, cpu, toMsgtrans, 0.5},
		{12, msgtransTCP16, workers, cpu, toMsgtrans, 0.5},
		{12, msgtransWS, inline, cpu, toMsgtrans, 1},
		{12, msgtransWS, workers, cpu, toMsgtrans, 1},
	},
}

var groups = []group{tcpGroup, wsGroup, tlsGroup, quicGroup, openGroup, msgtransGroup}
