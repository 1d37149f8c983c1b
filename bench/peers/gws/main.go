// Command gws is the WebSocket echo on lxzan/gws, a goroutine a connection.
// Messages are handled one after the other, which is its default and the
// quickest for an echo. Each comes back unchanged, with a write of
// its own.
//
//	gws [--addr HOST:PORT]
//
// It prints "ready ws://HOST:PORT/" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"net"

	"github.com/lxzan/gws"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("gws", serve) }

func serve(addr string, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ready("ws://" + listener.Addr().String() + "/")
	server := gws.NewServer(handler{}, &gws.ServerOption{ReadBufferSize: peer.BufferSize})
	return server.RunListener(listener)
}

type handler struct{ gws.BuiltinEventHandler }

func (handler) OnPing(c *gws.Conn, payload []byte) {
	_ = c.WritePong(payload) // a failure ends the connection
}

func (handler) OnMessage(c *gws.Conn, message *gws.Message) {
	_ = c.WriteMessage(message.Opcode, message.Bytes()) // as above
	_ = message.Close()                                 // gives its buffer back and never fails
}
