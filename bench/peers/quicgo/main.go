// Command quicgo is a packet echo written by hand on quic-go: a goroutine a stream,
// which reads the available packets and answers them with one write. With --write-each
// it answers each packet with a write of its own. It speaks millrace/1 (docs/WIRE.md
// section 3), without datagrams.
//
//	quicgo [--addr HOST:PORT] [--write-each]
//
// It prints "ready quic://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"io"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/bench/peers/internal/peer"
	"github.com/millrace/millrace/framing"
)

func main() {
	var s server
	flag.BoolVar(&s.writeEach, "write-each", false, "answer each packet with a write of its own")
	peer.Main("quicgo", s.serve)
}

type server struct{ writeEach bool }

// abandoned is the error code of a stream that is given up.
const abandoned = 0

func (s *server) serve(addr string, ready func(url string)) error {
	secure, err := peer.TLSConfig("millrace/1")
	if err != nil {
		return err
	}
	listener, err := quic.ListenAddr(addr, secure, &quic.Config{MaxIncomingStreams: 1024})
	if err != nil {
		return err
	}
	ready("quic://" + listener.Addr().String())
	for {
		conn, err := listener.Accept(context.Background())
		if err != nil {
			return err
		}
		go s.accept(conn)
	}
}

func (s *server) accept(conn *quic.Conn) {
	for {
		stream, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go s.echo(stream)
	}
}

// echo answers until the peer ends the stream, and then ends it too.
func (s *server) echo(stream *quic.Stream) {
	if err := s.answer(stream); err != nil {
		stream.CancelRead(abandoned)
		stream.CancelWrite(abandoned)
		return
	}
	_ = stream.Close() // fails only on a stream that has ended
}

func (s *server) answer(stream io.ReadWriter) error {
	in := make([]byte, 0, peer.BufferSize)
	var out []byte
	for {
		if len(in) == cap(in) { // a packet larger than the buffer
			in = append(in, 0)[:len(in)]
		}
		n, err := stream.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		var taken int
		var writeErr error
		if s.writeEach {
			taken, writeErr = writeReplies(stream, in)
		} else if out, taken, writeErr = peer.AppendReplies(out[:0], in); writeErr == nil && len(out) > 0 {
			_, writeErr = stream.Write(out)
		}
		if writeErr != nil {
			return writeErr
		}
		in = in[:copy(in, in[taken:])]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeReplies answers each complete packet at the start of in with a write of its own,
// and returns how many bytes of in it used.
func writeReplies(w io.Writer, in []byte) (taken int, err error) {
	var out []byte
	for len(in)-taken >= framing.PacketHeaderSize {
		size, err := peer.PacketSize(in[taken:])
		if err != nil {
			return taken, err
		}
		if len(in)-taken < size {
			break
		}
		if out, _, err = peer.AppendReplies(out[:0], in[taken:taken+size]); err != nil {
			return taken, err
		}
		if _, err := w.Write(out); err != nil {
			return taken, err
		}
		taken += size
	}
	return taken, nil
}
