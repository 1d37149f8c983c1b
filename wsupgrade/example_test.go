package wsupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/client"
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

// The dialing side: an ordinary WebSocket server, with a query, a header and
// subprotocols. Package client does the same with less code.
func ExampleNewDialer() {
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == "chat" }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		_ = wsutil.WriteServerText(conn, []byte("welcome to "+r.URL.Query().Get("room")))
		_ = conn.Close()
	}))
	defer hs.Close()
	texts := make(chan string, 1)
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
		texts <- string(m.Payload)
	})})
	defer e.Close()
	_, err := e.Dial(context.Background(), hs.Listener.Addr().String(), wsupgrade.NewDialer(wsupgrade.DialConfig{
		RequestURI:   "/chat?room=lobby",
		Plain:        true,
		Header:       http.Header{"Origin": {"https://example.org"}},
		Subprotocols: []string{"chat", "superchat"},
		Accepted:     func(subprotocol string) { fmt.Println("subprotocol", subprotocol) },
	}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-texts)
	// Output:
	// subprotocol chat
	// welcome to lobby
}

// A close code and a reason in both directions.
func ExampleCloseError() {
	e := engine.New(engine.Config{Handler: engine.HandlerFuncs{Open: func(s *engine.Session) {
		s.CloseWith(&wsupgrade.CloseError{Code: 4001, Reason: "moved"})
	}}})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", wsupgrade.Path("/ws"))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(context.Background(), "ws://"+l.Addr().String()+"/ws")
	if err != nil {
		log.Fatal(err)
	}
	<-c.Done()
	var closed *wsupgrade.CloseError
	if errors.As(c.Err(), &closed) {
		fmt.Println(closed.Code, closed.Reason)
	}
	// Output: 4001 moved
}

// The HTTP status of a server that refuses the upgrade.
func ExampleHandshakeError() {
	hs := httptest.NewServer(http.NotFoundHandler())
	defer hs.Close()
	_, err := client.Dial(context.Background(), "ws://"+hs.Listener.Addr().String()+"/nowhere")
	var refused *wsupgrade.HandshakeError
	if errors.As(err, &refused) {
		fmt.Println(refused.Status, errors.Is(err, engine.ErrRefused))
	}
	// Output: 404 true
}
