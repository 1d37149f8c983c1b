// Command gonet is a typical echo server in Go: package net, a goroutine a
// connection, bufio on both sides, and one flush for all the requests of one
// read. It speaks packets (docs/WIRE.md section 1).
//
//	gonet [--addr HOST:PORT] [--tls]
//
// It prints "ready tcp://HOST:PORT", or tls:// with --tls, which adds
// crypto/tls, and serves until it gets SIGINT or SIGTERM.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"io"
	"net"

	"github.com/millrace/millrace/bench/peers/internal/peer"
	"github.com/millrace/millrace/framing"
)

const (
	bufferSize     = peer.BufferSize
	maxMessageSize = peer.MaxMessageSize
)

func main() {
	var s server
	flag.BoolVar(&s.tls, "tls", false, "serve TLS with a certificate that no client can verify")
	peer.Main("gonet", s.serve)
}

type server struct{ tls bool }

func (s *server) serve(addr string, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	url := "tcp://" + listener.Addr().String()
	if s.tls {
		secure, err := peer.TLSConfig()
		if err != nil {
			return err
		}
		url = "tls://" + listener.Addr().String()
		listener = tls.NewListener(listener, secure)
	}
	ready(url)
	return peer.Accept(listener, serve)
}

// serve echoes packets until the connection ends or has other bytes than packets.
func serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, bufferSize)
	w := bufio.NewWriterSize(conn, bufferSize)
	var m framing.Message
	for {
		size, err := peekSize(r, w)
		if err != nil {
			return
		}
		frame, err := takeFrame(r, w, size)
		if err != nil {
			return
		}
		if _, err := (framing.Packet{}).Decode(frame, 0, maxMessageSize, &m); err != nil {
			return
		}
		if m.Type == framing.Request {
			m.Type = framing.Response
		}
		out, err := framing.AppendPacket(w.AvailableBuffer(), &m)
		if err != nil {
			return
		}
		if _, err := w.Write(out); err != nil {
			return
		}
		if size <= bufferSize {
			if _, err := r.Discard(size); err != nil {
				return
			}
		}
	}
}

// peekSize returns the size in bytes of the next packet.
func peekSize(r *bufio.Reader, w *bufio.Writer) (int, error) {
	if err := flushBeforeWait(r, w, framing.PacketHeaderSize); err != nil {
		return 0, err
	}
	head, err := r.Peek(framing.PacketHeaderSize)
	if err != nil {
		return 0, err
	}
	return peer.PacketSize(head)
}

// takeFrame returns the next packet of size bytes: a view of r's buffer, which
// the caller discards, or a copy of a packet that is larger than that.
func takeFrame(r *bufio.Reader, w *bufio.Writer, size int) ([]byte, error) {
	if err := flushBeforeWait(r, w, size); err != nil {
		return nil, err
	}
	if size <= bufferSize {
		return r.Peek(size)
	}
	large := make([]byte, size)
	_, err := io.ReadFull(r, large)
	return large, err
}

// flushBeforeWait sends the answers so far if the next read must wait for the peer,
// because the peer may be waiting for them.
func flushBeforeWait(r *bufio.Reader, w *bufio.Writer, need int) error {
	if r.Buffered() >= need || w.Buffered() == 0 {
		return nil
	}
	return w.Flush()
}
