package main

import (
	"testing"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
)

func TestEcho(t *testing.T) {
	peertest.Packets(t, peertest.Dial(t, peertest.Start(t, serve)))
}
