// Command gnet is the packet echo on gnet. Its event loops decode the packets of one
// read in place, and send all the answers with one write. It speaks
// packets (docs/WIRE.md section 1).
//
//	gnet [--addr HOST:PORT]
//
// It prints "ready tcp://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/panjf2000/gnet/v2" //nolint:depguard // this program is the rival itself

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("gnet", serve) }

func serve(addr string, ready func(url string)) error {
	return gnet.Run(&handler{ready: ready}, "tcp://"+addr,
		gnet.WithMulticore(true), gnet.WithReadBufferCap(peer.BufferSize), gnet.WithLogger(logger{}))
}

// handler is called by all event loops. Replies are built in buffers of a pool:
// Write has sent them or copied them when it returns.
type handler struct {
	gnet.BuiltinEventEngine
	ready   func(url string)
	replies sync.Pool
}

// OnBoot prints the address, because gnet doesn't report its port.
func (h *handler) OnBoot(engine gnet.Engine) gnet.Action {
	addr, err := listeningAt(engine)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gnet:", err)
		return gnet.Shutdown
	}
	h.ready("tcp://" + addr)
	return gnet.None
}

func listeningAt(engine gnet.Engine) (string, error) {
	fd, err := engine.Dup()
	if err != nil {
		return "", err
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	buffer, _ := h.replies.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	out, taken, err := peer.AppendReplies((*buffer)[:0], in)
	*buffer = out
	defer h.replies.Put(buffer)
	if err != nil {
		return gnet.Close
	}
	if taken == 0 { // Discard(0) would discard everything
		return gnet.None
	}
	if _, err := c.Discard(taken); err != nil {
		return gnet.Close
	}
	if _, err := c.Write(out); err != nil {
		return gnet.Close
	}
	return gnet.None
}
