package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/wsupgrade"
)

// serveLines starts an engine with one listener for lines of text, as ExampleEngine_Serve
// does, and connects to it. The caller closes both.
func serveLines(cfg engine.Config) (*engine.Engine, *net.TCPConn) {
	e := engine.New(cfg)
	l, err := e.Listen("127.0.0.1:0", engine.Framed(framing.Line{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(l.Addr()))
	if err != nil {
		log.Fatal(err)
	}
	return e, c
}

// A server listens, serves until its context ends, and then lets sessions end in order.
// ListenAndServe does both if the program does not need the address.
func ExampleEngine_Serve() {
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		_ = s.Reply(m, m.Payload) // m is valid until the function returns
	})})
	l, err := e.Listen("127.0.0.1:0", engine.Framed(framing.Line{}))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) // or signal.NotifyContext
	served := make(chan error)
	go func() { served <- e.Serve(ctx) }()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(c, "hello")
	line, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line)
	c.Close()
	stop()
	fmt.Println(<-served)
	// Output:
	// hello
	// <nil>
}

// A session's callbacks run one after the other: Open, each Message, and Close with the
// reason.
func ExampleHandlerFuncs() {
	closed := make(chan bool)
	e, c := serveLines(engine.Config{Handler: engine.HandlerFuncs{
		Open:    func(s *engine.Session) { fmt.Println("open:", s.Transport()) },
		Message: func(_ *engine.Session, m *engine.Message) { fmt.Printf("message: %s\n", m.Payload) },
		Close: func(_ *engine.Session, reason error) {
			fmt.Println("closed by the peer:", errors.Is(reason, engine.ErrPeerClosed))
			close(closed)
		},
	}})
	defer e.Close()
	fmt.Fprint(c, "one\ntwo\n")
	c.Close()
	<-closed
	// Output:
	// open: tcp
	// message: one
	// message: two
	// closed by the peer: true
}

// Each listener of an engine may have a handler, an Authorizer and limits of its own.
func ExampleEngine_ListenWith() {
	answer := func(text string) engine.Handler {
		return engine.HandlerFunc(func(s *engine.Session, m *engine.Message) { _ = s.Reply(m, []byte(text)) })
	}
	e := engine.New(engine.Config{Handler: answer("public")})
	defer e.Close()
	public, err := e.ListenWith(engine.ListenConfig{Addr: "127.0.0.1:0", MaxSessions: 10_000, MessageRate: 100},
		engine.Framed(framing.Line{}))
	if err != nil {
		log.Fatal(err)
	}
	admin, err := e.ListenWith(engine.ListenConfig{Addr: "127.0.0.1:0", Handler: answer("admin"), MaxSessions: 2},
		engine.Framed(framing.Line{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	for _, l := range []*engine.Listener{public, admin} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(c, "which one?")
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Print(line)
		c.Close()
	}
	// Output:
	// public
	// admin
}

// An Authorizer decides before a session opens. It may block, for example to ask a token
// service. The handler finds the values that it sets.
func ExampleAuthorizer() {
	type userKey struct{}
	authorize := func(_ context.Context, h *engine.Handshake) error {
		user, password, _ := wsupgrade.RequestOf(h).BasicAuth()
		if password != "secret" {
			return &engine.Refusal{Status: http.StatusUnauthorized, Reason: "who are you?"}
		}
		h.SetValue(userKey{}, user)
		return nil
	}
	users := make(chan any)
	e := engine.New(engine.Config{Authorize: authorize, Handler: engine.HandlerFuncs{
		Open: func(s *engine.Session) { users <- s.Value(userKey{}) },
	}})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", wsupgrade.Path("/ws"))
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	var request http.Request
	for _, password := range []string{"guess", "secret"} {
		request.Header = http.Header{}
		request.SetBasicAuth("Ada", password)
		d := ws.Dialer{Header: ws.HandshakeHeaderHTTP(request.Header)}
		c, _, _, err := d.Dial(context.Background(), "ws://"+l.Addr().String()+"/ws")
		if err != nil {
			fmt.Println(err)
			continue
		}
		defer c.Close()
		fmt.Println(<-users, "is in")
	}
	// Output:
	// unexpected HTTP response status: 401
	// Ada is in
}

// A protocol without a handshake of its own carries a token in its first message, which
// OnMessage does not get.
func ExampleHandshake_First() {
	e, c := serveLines(engine.Config{
		Authorize: func(ctx context.Context, h *engine.Handshake) error {
			token, err := h.First(ctx)
			if err != nil {
				return err
			}
			if string(token.Payload) != "secret" {
				return &engine.Refusal{Reason: "wrong token"}
			}
			return nil
		},
		Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) { _ = s.Reply(m, m.Payload) }),
	})
	defer e.Close()
	defer c.Close()
	fmt.Fprint(c, "secret\nhello\n")
	line, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line)
	// Output: hello
}

// Stats are counters since the engine was made.
func ExampleEngine_Stats() {
	e, c := serveLines(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		_ = s.Reply(m, m.Payload)
	})})
	fmt.Fprintln(c, "hello")
	_, _ = bufio.NewReader(c).ReadString('\n')
	c.Close()
	if err := e.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	s := e.Stats()
	fmt.Println(s.Active, s.Accepted, s.MessagesIn, s.MessagesOut, s.BytesIn, s.BytesOut)
	// Output: 0 1 1 1 6 6
}

// A dialed session is like an accepted one: the same handler gets its messages. Package
// client has an API for programs that only dial.
func ExampleEngine_Dial() {
	answered := make(chan bool)
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		if s.Dialed() {
			fmt.Printf("the server says %q\n", m.Payload)
			close(answered)
			return
		}
		_ = s.Reply(m, append([]byte("hello, "), m.Payload...))
	})})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	s, err := e.Dial(context.Background(), l.Addr().String(), engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Send([]byte("Ada")); err != nil {
		log.Fatal(err)
	}
	<-answered
	// Output: the server says "hello, Ada"
}
