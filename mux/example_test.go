package mux_test

import (
	"context"
	"fmt"
	"log"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
)

// A server asks its client: with a Mux on both sides, either may.
func ExampleMux_Request() {
	sessions := make(chan *engine.Session, 1)
	asks := mux.New(engine.HandlerFuncs{Open: func(s *engine.Session) { sessions <- s }}, mux.Config{})
	server := engine.New(engine.Config{Handler: asks})
	l, err := server.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if err := s.Reply(m, append([]byte("I heard: "), m.Payload...)); err != nil {
			log.Print(err)
		}
	})})
	defer client.Close()
	if _, err := client.Dial(context.Background(), l.Addr().String(), engine.Packets()); err != nil {
		log.Fatal(err)
	}

	// Not in OnOpen: a callback would wait for itself.
	answer, err := asks.Request(context.Background(), <-sessions, []byte("who is there?"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer.Payload))
	// Output: I heard: who is there?
}
