package main

import (
	"testing"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
)

func TestEcho(t *testing.T) {
	// nbio doesn't answer an empty message, so this test has none.
	peertest.WebSocket(t, peertest.Start(t, serve), peertest.MessageSizes[1:])
}
