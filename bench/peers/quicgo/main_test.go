package main

import (
	"context"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
)

func TestEcho(t *testing.T) {
	for _, s := range []server{{}, {writeEach: true}} {
		url := peertest.Start(t, s.serve)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		conn, err := quic.DialAddr(ctx, strings.TrimPrefix(url, "quic://"),
			&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"millrace/1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseWithError(0, "")
		for range 2 {
			stream, err := conn.OpenStreamSync(ctx)
			if err != nil {
				t.Fatal(err)
			}
			stream.SetDeadline(time.Now().Add(20 * time.Second))
			peertest.Packets(t, stream)
			stream.Close()
			if rest, err := io.ReadAll(stream); err != nil || len(rest) > 0 {
				t.Errorf("after the last answer: %x, %v", rest, err)
			}
		}
	}
}
