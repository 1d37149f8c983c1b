package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/framing"
)

// How a contestant broadcasts.
const (
	wayLoop       = "loop"       // Send, one goroutine
	wayHandler    = "handler"    // Send, in OnMessage of one session
	wayGoroutines = "goroutines" // Send or Write, a goroutine a CPU
	wayPrepared   = "prepared"   // the frame encoded once, Write, one goroutine
)

// A broadcastContestant is a server with a way to broadcast.
type broadcastContestant struct {
	name, role, way string
}

// The others are compared with the first one. The engine has no broadcast call; these
// are the ways in which a program can broadcast with the calls that exist.
var broadcastContestants = []broadcastContestant{
	{"Millrace, loop of Send, one goroutine", "server", wayLoop},
	{"Millrace, loop of Send, in a handler", "server", wayHandler},
	{"Millrace, Send, a goroutine a CPU", "server", wayGoroutines},
	{"Go net, frame prepared once, one goroutine", "rawnet", wayPrepared},
	{"Go net, frame prepared once, a goroutine a CPU", "rawnet", wayGoroutines},
}

// triggerBiz marks the message that makes a handler broadcast.
const triggerBiz = 200

type broadcastSettings struct {
	sessions, rounds, messages, size int
	transport                        string
}

func setupBroadcast(fs *flag.FlagSet) (check func() error, run body) {
	var set broadcastSettings
	fs.IntVar(&set.sessions, "sessions", 10_000, "sessions that listen")
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, contestants in turn, each with a new server")
	fs.IntVar(&set.messages, "messages", 20, "broadcasts a round, each delivered before the next")
	fs.IntVar(&set.size, "size", 64, "payload bytes")
	fs.StringVar(&set.transport, "transport", "tcp", "tcp or ws")
	check = func() error {
		if set.transport != "tcp" && set.transport != "ws" {
			return fmt.Errorf("--transport %q is neither tcp nor ws", set.transport)
		}
		return cmp.Or(
			between("sessions", set.sessions, 1, maxFleet), between("rounds", set.rounds, 1, 50),
			between("messages", set.messages, 1, 1000), between("size", set.size, 8, 64<<10))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return broadcast(ctx, log, set) }
}

func broadcast(ctx context.Context, log *progress, set broadcastSettings) (*report, error) {
	r := &report{}
	t := r.addTable(fmt.Sprintf("broadcast of %d bytes to %d sessions over %s", set.size, set.sessions, set.transport),
		column{"until all have it", nanos}, column{"deliveries", perSecond}, column{"sender busy", nanos},
		column{"server CPU a delivery", nanos}, column{"to loop of Send", plainRatio})
	rows := make([]*row, len(broadcastContestants))
	for i, c := range broadcastContestants {
		rows[i] = t.addRow(c.name)
	}
	for round := range set.rounds {
		log.printf("round %d of %d", round+1, set.rounds)
		var base float64
		for i, c := range broadcastContestants {
			values, err := c.round(ctx, set)
			if err != nil {
				return r, fmt.Errorf("%s: %w", c.name, err)
			}
			if i == 0 {
				base = values[0]
			}
			rows[i].add(append(values, base/values[0])...)
		}
	}
	best, rival := 0.0, 0.0
	for i, c := range broadcastContestants {
		ratio := median(rows[i].Cells[4])
		if c.role == "rawnet" {
			rival = max(rival, ratio)
		} else if i > 0 {
			best = max(best, ratio)
		}
	}
	r.addGoal("broadcast at least 3x a loop of Send", human(best, plainRatio), best >= 3)
	r.addGoal("broadcast at least the rival's prepared frame",
		fmt.Sprintf("%s, the rival %s", human(best, plainRatio), human(rival, plainRatio)), best >= rival)
	r.note("the engine has no broadcast call; client and server share the CPUs")
	r.note("the rival is a connection's Write of one prepared frame, as PreparedMessage of gorilla and CompileFrame of gobwas are used")
	return r, nil
}

// round measures one contestant: medians of its broadcasts.
func (b broadcastContestant) round(ctx context.Context, set broadcastSettings) (values []float64, err error) {
	c, ready, err := startChild[serverReady](ctx, b.name, b.role, serverSettings{Addr: "127.0.0.1:0", Transport: set.transport})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	addr, err := netip.ParseAddrPort(ready.Addr)
	if err != nil {
		return nil, err
	}
	clients := newFleet(set.transport, addr, loopbacks(2, 3))
	defer clients.close()
	if err := clients.open(set.sessions); err != nil {
		return nil, err
	}
	receiver, err := newReceiver(clients)
	if err != nil {
		return nil, err
	}
	defer receiver.close()
	call, hangUp, err := b.caller(ctx, c, addr, set)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	var times, busy []float64
	before, err := cpuTime(c.pid())
	if err != nil {
		return nil, err
	}
	for i := range set.messages {
		id := uint32(i + 1)
		if b.role == "rawnet" {
			id = 0 // one frame for all
		}
		start := time.Now()
		delivered := receiver.expect(ctx, broadcastFrame(set, id, uint32(i+1)))
		took, err := call(uint32(i + 1))
		end, receiveErr := (<-delivered).result()
		if err := errors.Join(err, receiveErr); err != nil {
			return nil, fmt.Errorf("broadcast %d: %w", i+1, err)
		}
		times, busy = append(times, float64(end.Sub(start))), append(busy, float64(took))
	}
	after, err := cpuTime(c.pid())
	if err != nil {
		return nil, err
	}
	middle := median(times)
	return []float64{
		middle, float64(set.sessions) / middle * 1e9, median(busy),
		float64(after-before) / float64(set.messages*set.sessions),
	}, nil
}

// caller returns a function that makes the server broadcast message number n and returns
// how long its sender was busy.
func (b broadcastContestant) caller(ctx context.Context, c *child, addr netip.AddrPort, set broadcastSettings) (
	call func(n uint32) (time.Duration, error), hangUp func(), err error) {
	if b.way != wayHandler {
		return func(n uint32) (time.Duration, error) {
			return ask[time.Duration](ctx, c, "broadcast", broadcastArgs{Way: b.way, Size: set.size, Number: n})
		}, func() {}, nil
	}
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		return nil, nil, err
	}
	rw := io.ReadWriter(conn)
	if set.transport == "ws" {
		target, err := url.Parse(wsURL(addr))
		if err == nil {
			_, _, err = ws.Dialer{}.Upgrade(conn, target)
		}
		if err != nil {
			conn.Close()
			return nil, nil, err
		}
		rw = &wsConn{conn: conn}
	}
	return func(n uint32) (time.Duration, error) {
		conn.SetDeadline(time.Now().Add(patience))
		args, err := json.Marshal(broadcastArgs{Size: set.size, Number: n})
		if err != nil {
			return 0, err
		}
		m := framing.Message{Type: framing.Request, ID: n, BizType: triggerBiz, Payload: args}
		if _, err := rw.Write(mustPacket(&m)); err != nil {
			return 0, err
		}
		reply := make([]byte, framing.PacketHeaderSize+8)
		if _, err := io.ReadFull(rw, reply); err != nil {
			return 0, err
		}
		return time.Duration(binary.BigEndian.Uint64(reply[framing.PacketHeaderSize:])), nil
	}, func() { conn.Close() }, nil
}

// broadcastFrame is the n-th broadcast as a session must receive it.
func broadcastFrame(set broadcastSettings, id, n uint32) []byte {
	packet := mustPacket(&framing.Message{ID: id, Payload: broadcastPayload(set.size, n)})
	if set.transport == "ws" {
		return ws.MustCompileFrame(ws.NewBinaryFrame(packet))
	}
	return packet
}

// broadcastPayload is the n-th broadcast, at least 8 bytes.
func broadcastPayload(size int, n uint32) []byte {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i) ^ byte(n)
	}
	binary.BigEndian.PutUint32(payload, n)
	return payload
}
