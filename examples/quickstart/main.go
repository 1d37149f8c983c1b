package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	echo := engine.HandlerFunc(func(s *engine.Session, m *engine.Message) { _ = s.Reply(m, m.Payload) })
	e := engine.New(engine.Config{Handler: echo})
	err := e.ListenAndServe(ctx, "127.0.0.1:8001", engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC())
	if err != nil { // Listen failed, or sessions were cut at the end
		log.Fatal(err)
	}
}
