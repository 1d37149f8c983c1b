// Command coder is the WebSocket echo on coder/websocket: net/http and a
// goroutine a connection, which keeps one buffer for all its messages. Each
// message comes back unchanged, with a write of its own.
//
//	coder [--addr HOST:PORT]
//
// It prints "ready ws://HOST:PORT/" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"bytes"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("coder", serve) }

func serve(addr string, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ready("ws://" + listener.Addr().String() + "/")
	return http.Serve(listener, http.HandlerFunc(accept))
}

func accept(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil) // without compression, its default
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }() // the peer has left or broken the protocol
	conn.SetReadLimit(peer.MaxMessageSize)
	var message bytes.Buffer
	for {
		kind, reader, err := conn.Reader(r.Context())
		if err != nil {
			return
		}
		message.Reset()
		if _, err := message.ReadFrom(reader); err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message.Bytes()); err != nil {
			return
		}
	}
}
