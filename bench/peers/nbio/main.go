// Command nbio is the packet echo on nbio's event loops: the packets of one read
// are decoded in place and answered with one write. It speaks
// packets (docs/WIRE.md section 1).
//
//	nbio [--addr HOST:PORT]
//
// It prints "ready tcp://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"net"
	"sync"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("nbio", serve) }

func serve(addr string, ready func(url string)) error {
	logging.SetLevel(logging.LevelError) // stdout is for the ready line
	var at net.Addr
	engine := nbio.NewEngine(nbio.Config{
		Network: "tcp", Addrs: []string{addr}, ReadBufferSize: peer.BufferSize,
		Listen: func(network, addr string) (net.Listener, error) {
			listener, err := net.Listen(network, addr)
			if err == nil {
				at = listener.Addr()
			}
			return listener, err
		},
	})
	engine.OnData(answer)
	if err := engine.Start(); err != nil {
		return err
	}
	ready("tcp://" + at.String())
	engine.Wait()
	return net.ErrClosed
}

// replies pools the buffers of answers: Write has sent them or copied them when
// it returns.
var replies = sync.Pool{New: func() any { return new([]byte) }}

// answer answers data. An incomplete packet is stored as the connection's session
// until the rest arrives. nbio reads a connection from one goroutine at a time.
func answer(c *nbio.Conn, data []byte) {
	tail, _ := c.Session().([]byte)
	if len(tail) > 0 {
		tail = append(tail, data...)
		data = tail
	}
	buffer := replies.Get().(*[]byte)
	defer replies.Put(buffer)
	out, taken, err := peer.AppendReplies((*buffer)[:0], data)
	*buffer = out
	if err != nil {
		_ = c.CloseWithError(err) // fails only if it is closed
		return
	}
	if rest := data[taken:]; len(rest) > 0 || len(tail) > 0 {
		c.SetSession(append(tail[:0], rest...))
	}
	if len(out) > 0 {
		if _, err := c.Write(out); err != nil {
			_ = c.CloseWithError(err) // fails only if it is closed
		}
	}
}
