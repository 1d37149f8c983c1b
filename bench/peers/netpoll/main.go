// Command netpoll is the packet echo on CloudWeGo's netpoll: its pollers and its
// pool of goroutines, answers collected in its own buffers, and one flush for
// all the requests that have arrived. It speaks packets (docs/WIRE.md section 1).
//
//	netpoll [--addr HOST:PORT]
//
// It prints "ready tcp://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"context"

	"github.com/cloudwego/netpoll"

	"github.com/millrace/millrace/bench/peers/internal/peer"
	"github.com/millrace/millrace/framing"
)

func main() { peer.Main("netpoll", serve) }

func serve(addr string, ready func(url string)) error {
	listener, err := netpoll.CreateListener("tcp", addr)
	if err != nil {
		return err
	}
	loop, err := netpoll.NewEventLoop(onRequest)
	if err != nil {
		return err
	}
	ready("tcp://" + listener.Addr().String())
	return loop.Serve(listener)
}

// onRequest answers the packets that have arrived. netpoll calls it again while there
// are bytes, so it waits for the rest of an incomplete packet.
func onRequest(_ context.Context, conn netpoll.Connection) error {
	err := awaitPacket(conn.Reader())
	if err == nil {
		err = answer(conn.Reader(), conn.Writer())
	}
	if err != nil {
		conn.Close()
	}
	return err
}

// awaitPacket blocks until the incomplete packet is complete.
func awaitPacket(r netpoll.Reader) error {
	head, err := r.Peek(framing.PacketHeaderSize)
	if err != nil {
		return err
	}
	size, err := peer.PacketSize(head)
	if err != nil {
		return err
	}
	_, err = r.Peek(size)
	return err
}

// answer answers every complete packet. There must be at least one: MallocAck(0)
// frees nothing, and the flush would send uninitialised memory.
func answer(r netpoll.Reader, w netpoll.Writer) error {
	in, err := r.Peek(r.Len())
	if err != nil {
		return err
	}
	// Answers are as long as their requests, so this is enough. The excess is only the
	// start of the next packet.
	out, err := w.Malloc(len(in))
	if err != nil {
		return err
	}
	replies, taken, err := peer.AppendReplies(out[:0], in)
	if err != nil {
		return err
	}
	if err := w.MallocAck(len(replies)); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := r.Skip(taken); err != nil {
		return err
	}
	return r.Release()
}
