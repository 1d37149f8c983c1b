package main

import (
	"testing"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
)

func TestEcho(t *testing.T) {
	// nbio gave no answer to an empty message, so this leaves it out.
	peertest.WebSocket(t, peertest.Start(t, serve), peertest.MessageSizes[1:])
}
