// Command nbiows is the WebSocket echo on nbio's event loops, without a
// goroutine for each connection. Each message comes back unchanged.
//
//	nbiows [--addr HOST:PORT]
//
// It prints "ready ws://HOST:PORT/" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("nbiows", serve) }

func serve(addr string, ready func(url string)) error {
	logging.SetLevel(logging.LevelError) // stdout is for the ready line
	upgrader := websocket.NewUpgrader()
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, data []byte) {
		if err := c.WriteMessage(kind, data); err != nil {
			c.CloseWithError(err)
		}
	})
	var at net.Addr
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp", Addrs: []string{addr}, ReadBufferSize: peer.BufferSize,
		ReleaseWebsocketPayload:      true,
		MaxWebsocketFramePayloadSize: peer.MaxMessageSize, // a message, a frame
		// Messages are handled on the loop: this handler never blocks.
		ServerExecutor: func(f func()) { f() },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Upgrade has answered a request that isn't an upgrade.
			_, _ = upgrader.Upgrade(w, r, nil)
		}),
		Listen: func(network, addr string) (net.Listener, error) {
			listener, err := net.Listen(network, addr)
			if err == nil {
				at = listener.Addr()
			}
			return listener, err
		},
	})
	if err := engine.Start(); err != nil {
		return err
	}
	ready("ws://" + at.String() + "/")
	engine.Wait()
	return net.ErrClosed
}
