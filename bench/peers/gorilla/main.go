// Command gorilla is the WebSocket echo on gorilla/websocket: net/http and a
// goroutine a connection, which keeps one buffer for all its messages. Each
// message comes back unchanged, with a write of its own.
//
//	gorilla [--addr HOST:PORT]
//
// It prints "ready ws://HOST:PORT/" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"bytes"
	"net"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("gorilla", serve) }

func serve(addr string, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ready("ws://" + listener.Addr().String() + "/")
	return http.Serve(listener, http.HandlerFunc(upgrade))
}

var upgrader = websocket.Upgrader{ReadBufferSize: peer.BufferSize, WriteBufferSize: 4 << 10}

func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer func() { _ = conn.Close() }() // the peer has left or broken the protocol
	var message bytes.Buffer
	for {
		kind, reader, err := conn.NextReader()
		if err != nil {
			return
		}
		message.Reset()
		if _, err := message.ReadFrom(reader); err != nil {
			return
		}
		if err := conn.WriteMessage(kind, message.Bytes()); err != nil {
			return
		}
	}
}
