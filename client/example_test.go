package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// upperCase starts a server on all transports that answers in upper case.
func upperCase() (addr string, stop func()) {
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if err := s.Reply(m, []byte(strings.ToUpper(string(m.Payload)))); err != nil {
			log.Print(err)
		}
	})})
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC())
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	return l.Addr().String(), func() { _ = e.Close() }
}

// One API for all transports.
func ExampleDial() {
	addr, stop := upperCase()
	defer stop()
	// The server's development certificate is its own.
	insecure := client.WithTLS(&tls.Config{InsecureSkipVerify: true})
	for _, url := range []string{"tcp://" + addr, "ws://" + addr + "/ws", "quic://" + addr} {
		c, err := client.Dial(context.Background(), url, insecure)
		if err != nil {
			log.Fatal(err)
		}
		answer, err := c.Request(context.Background(), []byte("hello"))
		fmt.Println(c.Session().Transport(), string(answer), err)
		_ = c.Close()
	}
	// Output:
	// tcp HELLO <nil>
	// ws HELLO <nil>
	// quic HELLO <nil>
}

// Messages come as a sequence; EventClosed is the last of it.
func ExampleClient_Events() {
	addr, stop := upperCase()
	defer stop()
	c, err := client.Dial(context.Background(), "tcp://"+addr)
	if err != nil {
		log.Fatal(err)
	}
	for _, word := range []string{"one", "two", "three"} {
		if err := c.Send([]byte(word)); err != nil {
			log.Fatal(err)
		}
	}
	for ev := range c.Events() {
		switch ev.Kind {
		case client.EventMessage:
			fmt.Println(string(ev.Message.Payload))
			if string(ev.Message.Payload) == "THREE" {
				_ = c.Close()
			}
		case client.EventClosed:
			fmt.Println(ev.Err)
		}
	}
	// Output:
	// ONE
	// TWO
	// THREE
	// engine: closed
}

// One message after the other, each wait bounded by a context.
func ExampleClient_Receive() {
	addr, stop := upperCase()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "tcp://"+addr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Send([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(m.Payload))
	// Output: HELLO
}

// A server may ask, too: this client answers in a handler.
func ExampleWithHandler() {
	answers := make(chan string)
	var requests *mux.Mux
	requests = mux.New(engine.HandlerFuncs{Open: func(s *engine.Session) {
		go func() { // a callback must not wait for the answer
			m, err := requests.Request(context.Background(), s, []byte("How are you?"))
			if err != nil {
				log.Fatal(err)
			}
			answers <- string(m.Payload)
		}()
	}}, mux.Config{})
	e := engine.New(engine.Config{Handler: requests})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", wsupgrade.Path("/ws"))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(context.Background(), "ws://"+l.Addr().String()+"/ws", client.WithHandler(engine.HandlerFuncs{
		Message: func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, []byte("fine, thanks")) },
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(<-answers)
	// Output: fine, thanks
}

// A client of an ordinary WebSocket server, such as one of net/http: a token in the
// query, an origin, and text messages.
func ExampleWithPlainMessages() {
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		_ = wsutil.WriteServerText(conn, []byte(r.URL.Query().Get("token")+" from "+r.Header.Get("Origin")))
		_ = conn.Close()
	}))
	defer hs.Close()
	ctx := context.Background()
	c, err := client.Dial(ctx, "ws://"+hs.Listener.Addr().String()+"/chat?token=abc",
		client.WithPlainMessages(),
		client.WithHeader(http.Header{"Origin": {"https://example.org"}}))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(m.Payload), m.Text)
	// Output: abc from https://example.org true
}

// Through an HTTP proxy, with a smaller bound for messages and for their number.
func ExampleWithProxy() {
	c, err := client.Dial(context.Background(), "wss://chat.example.org/room?id=7",
		client.WithProxy("http://me:password@proxy.example.org:3128"),
		client.WithLimits(client.Limits{MaxMessageSize: 64 << 10, MaxEventBytes: 256 << 10, IdleTimeout: time.Minute}))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
}
