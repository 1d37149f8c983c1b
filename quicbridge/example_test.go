package quicbridge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/quicbridge"
)

// answerQUIC starts an engine that serves QUIC: it answers each accepted session, and passes
// what a dialed one gets to answers.
func answerQUIC(answers chan<- *engine.Message, protocol *quicbridge.Protocol) (e *engine.Engine, addr string) {
	e = engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		if s.Dialed() {
			answers <- m.Clone()
			return
		}
		_ = s.Reply(m, append([]byte("hello, "), m.Payload...))
	})})
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), protocol)
	if err != nil {
		log.Fatal(err)
	}
	if err := e.Start(); err != nil {
		log.Fatal(err)
	}
	return e, l.Addr().String()
}

// Packets over TCP and QUIC share an address and a handler. Without a certificate the
// server makes one for development, on a loopback address only.
func ExampleQUIC() {
	answers := make(chan *engine.Message, 1)
	e, addr := answerQUIC(answers, quicbridge.QUIC())
	defer e.Close()
	insecure := quicbridge.New(quicbridge.Config{TLS: &tls.Config{InsecureSkipVerify: true}})
	for _, protocol := range []engine.Protocol{engine.Packets(), insecure} {
		s, err := e.Dial(context.Background(), addr, protocol)
		if err != nil {
			log.Fatal(err)
		}
		if err := s.Send([]byte("Ada")); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", s.Transport(), (<-answers).Payload)
	}
	// Output:
	// tcp: hello, Ada
	// quic: hello, Ada
}

// A dialing Protocol verifies the server, unless its Config says otherwise.
func ExampleProtocol_Dial() {
	e, addr := answerQUIC(nil, quicbridge.QUIC())
	defer e.Close()
	_, err := e.Dial(context.Background(), addr, quicbridge.QUIC())
	fmt.Println(errors.Is(err, engine.ErrProtocol), engine.Retryable(err)) // no authority has signed the certificate
	// Output: true false
}

// Every limit has a default and bounds. Listen and Dial check them, too.
func ExampleConfig_Validate() {
	cfg := quicbridge.Config{MaxStreams: 10, IdleTimeout: time.Minute}
	fmt.Println(cfg.Validate())
	cfg.MaxStreams = 20_000
	fmt.Println(cfg.Validate())
	// Output:
	// <nil>
	// quicbridge: Config.MaxStreams 20000 is outside 1 to 10000
}
