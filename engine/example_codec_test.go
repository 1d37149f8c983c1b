package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log"
	"net"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// greeting is a stream protocol: lines of text after a greeting, in which the client says
// HELLO. The line PING is answered by PONG, which the handler does not see.
type greeting struct{}

func (greeting) Name() string { return "greeting" }

func (greeting) Match(first []byte) engine.Match {
	if first[0] == 'H' {
		return engine.MatchYes
	}
	return engine.MatchNo
}

func (greeting) Accept(*engine.Control) engine.Codec { return new(greetingCodec) }

func (greeting) Connect(_ context.Context, conn net.Conn, _ string, _ engine.Limits) (engine.Codec, []byte, error) {
	_, err := fmt.Fprint(conn, "HELLO\n")
	return new(greetingCodec), nil, err
}

// greetingCodec is the state of a session.
type greetingCodec struct {
	framing.Line // encodes messages
	greeted      bool
}

// NeedsHandshake implements engine.Handshaker: the session opens after the greeting.
func (*greetingCodec) NeedsHandshake() bool { return true }

// Decode implements engine.Codec.
func (g *greetingCodec) Decode(c *engine.Control, b []byte, seen int, m *framing.Message) (n int, ok bool, err error) {
	n, err = g.Line.Decode(b, seen, c.Limits().MaxMessageSize, m)
	switch {
	case err != nil || n == 0: // n is 0 if the line is not complete
		return 0, false, err
	case !g.greeted:
		if string(m.Payload) != "HELLO" {
			return 0, false, fmt.Errorf("%w: no greeting", engine.ErrProtocol)
		}
		if !c.Authorize() { // false until the Authorizers have decided
			return 0, false, nil
		}
		g.greeted = true
		c.Establish()
		return n, false, nil
	case bytes.Equal(m.Payload, []byte("PING")):
		return n, false, c.SendControl([]byte("PONG\n"))
	}
	return n, true, nil
}

// Goodbye implements engine.Codec.
func (g *greetingCodec) Goodbye(dst []byte, _ error) []byte { return append(dst, "BYE\n"...) }

// A protocol of one's own shares the address with the others, and the handler.
// examples/customproto has a larger one.
func ExampleCodec() {
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		_ = s.Reply(m, []byte(s.Transport()+": "+string(m.Payload)))
		_ = s.Close()
	})})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), greeting{})
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "HELLO\nPING\nmessage\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		fmt.Println(lines.Text())
	}
	// Output:
	// PONG
	// greeting: message
	// BYE
}
