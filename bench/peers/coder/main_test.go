package main

import (
	"testing"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
)

func TestEcho(t *testing.T) {
	peertest.WebSocket(t, peertest.Start(t, serve), peertest.MessageSizes)
}
