package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/bench/peers/internal/peertest"
	"github.com/millrace/millrace/framing"
)

// TestServe sends packets of many sizes, larger ones than the buffers too,
// pipelined and cut anywhere.
func TestServe(t *testing.T) {
	client, server := net.Pipe()
	go serve(server)
	defer client.Close()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	var requests, want []byte
	for i, size := range []int{0, 4, bufferSize - 17, bufferSize - 16, bufferSize - 15, 200_000, 1, maxMessageSize, 3} {
		m := framing.Message{Type: framing.Request, ID: uint32(i), Payload: bytes.Repeat([]byte{byte(i)}, size)}
		requests, _ = framing.AppendPacket(requests, &m)
		m.Type = framing.Response
		want, _ = framing.AppendPacket(want, &m)
	}
	go func() {
		for rest := requests; len(rest) > 0; {
			n, err := client.Write(rest[:min(len(rest), 70_001)])
			if err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(client, got); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the answers differ")
	}
}

func TestEcho(t *testing.T) {
	var plain, secure server
	secure.tls = true
	peertest.Packets(t, peertest.Dial(t, peertest.Start(t, plain.serve)))
	peertest.Packets(t, tls.Client(peertest.Dial(t, peertest.Start(t, secure.serve)), &tls.Config{InsecureSkipVerify: true}))
}

// TestServeRefuses sends bytes that aren't a packet, and a packet that is too large.
func TestServeRefuses(t *testing.T) {
	large := binary.BigEndian.AppendUint32([]byte{1, 0, 1, 0, 0, 0, 0, 1, 0, 0}, maxMessageSize+1)
	for _, b := range [][]byte{make([]byte, 16), append(large, 0, 0)} {
		client, server := net.Pipe()
		ended := make(chan struct{})
		go func() {
			serve(server)
			close(ended)
		}()
		client.SetDeadline(time.Now().Add(20 * time.Second))
		client.Write(b)
		<-ended
		client.Close()
	}
}
