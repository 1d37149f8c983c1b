package wsupgrade_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/wsupgrade"
)

// One handler serves packets over TCP, packets over WebSocket at /ws, and plain
// WebSocket messages at /echo, all on one address.
func ExamplePath() {
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, m.Payload)
	})})
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), wsupgrade.New(wsupgrade.Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}}))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	conn, _, _, err := ws.Dial(context.Background(), "ws://"+l.Addr().String()+"/echo")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_ = wsutil.WriteClientText(conn, []byte("hello"))
	text, _ := wsutil.ReadServerText(conn)
	fmt.Printf("%s\n", text)
	// Output: hello
}
