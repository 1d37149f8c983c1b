// Command gobwas is the WebSocket echo on gobwas/ws, with the low-level functions of
// that library: a goroutine a connection, frames over bufio on both sides, masks
// removed in place, and one flush for all the frames of one read. Each frame comes back
// unchanged.
//
//	gobwas [--addr HOST:PORT]
//
// It prints "ready ws://HOST:PORT/" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"bufio"
	"errors"
	"io"
	"net"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/bench/peers/internal/peer"
)

func main() { peer.Main("gobwas", serve) }

func serve(addr string, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ready("ws://" + listener.Addr().String() + "/")
	return peer.Accept(listener, upgrade)
}

func upgrade(conn net.Conn) {
	defer conn.Close()
	if _, err := ws.Upgrade(conn); err != nil {
		return
	}
	c := connection{
		r: bufio.NewReaderSize(conn, peer.BufferSize), w: bufio.NewWriterSize(conn, peer.BufferSize),
		head: make([]byte, ws.MaxHeaderSize),
	}
	for {
		if err := c.echo(); err != nil {
			return
		}
	}
}

type connection struct {
	r       *bufio.Reader
	w       *bufio.Writer
	head    []byte // of the current frame, incoming and outgoing
	payload []byte // of the current frame; grows to the largest
}

var errClosed = errors.New("the peer has closed")

// echo answers one frame. It flushes after the last frame that was read.
func (c *connection) echo() error {
	header, err := ws.ReadHeaderBuffer(c.r, c.head)
	if err != nil {
		return err
	}
	if err := ws.CheckHeader(header, ws.StateServerSide); err != nil {
		return err
	}
	if header.Length > peer.MaxMessageSize {
		return ws.ErrHeaderLengthUnexpected
	}
	if int64(cap(c.payload)) < header.Length {
		c.payload = make([]byte, header.Length)
	}
	payload := c.payload[:header.Length]
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return err
	}
	ws.Cipher(payload, header.Mask, 0)
	switch header.OpCode {
	case ws.OpPing:
		header.OpCode = ws.OpPong
	case ws.OpPong:
		return nil
	}
	header.Masked = false
	if err := ws.WriteHeaderBuffer(c.w, header, c.head); err != nil {
		return err
	}
	if _, err := c.w.Write(payload); err != nil {
		return err
	}
	if c.r.Buffered() == 0 || header.OpCode == ws.OpClose {
		if err := c.w.Flush(); err != nil {
			return err
		}
	}
	if header.OpCode == ws.OpClose {
		return errClosed
	}
	return nil
}
