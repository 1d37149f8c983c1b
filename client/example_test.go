package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"strings"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
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
