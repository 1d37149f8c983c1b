package main

import (
	"context"
	"log"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

func main() {
	echo := engine.OnMessage(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) })
	e := engine.New(engine.Config{Handler: echo})
	e.Listen("127.0.0.1:8001", engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC(quicbridge.Config{}))
	log.Fatal(e.Serve(context.Background())) // returns an error of Listen, too
}
