// Command gonet is the echo server that most Go programs would write: package
// net, a goroutine a connection, bufio on both sides, and one flush for all the
// requests that one read brought. It speaks packets (docs/WIRE.md section 1).
//
//	gonet [--addr HOST:PORT]
//
// It prints "ready tcp://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/framing"
)

const (
	bufferSize     = 64 << 10 // bytes, as large as the engine's read buffer
	maxMessageSize = 1 << 20  // bytes, the engine's default
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8001", "`HOST:PORT` to serve on; port 0 picks one")
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gonet:", err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		listener.Close()
	}()
	fmt.Printf("ready tcp://%s\n", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

// serve echoes packets until the peer ends or sends something else.
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
	body := int64(binary.BigEndian.Uint16(head[8:])) + int64(binary.BigEndian.Uint32(head[10:]))
	if body > maxMessageSize {
		return 0, framing.ErrTooLarge
	}
	return framing.PacketHeaderSize + int(body), nil
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

// flushBeforeWait sends the answers so far if the next read has to wait for the
// peer, who may be waiting for them.
func flushBeforeWait(r *bufio.Reader, w *bufio.Writer, need int) error {
	if r.Buffered() >= need || w.Buffered() == 0 {
		return nil
	}
	return w.Flush()
}
