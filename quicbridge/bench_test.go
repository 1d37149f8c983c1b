package quicbridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

const benchPayload = 64 // bytes

// benchServers are the servers that benchServer starts.
var benchServers = []string{"workers", "inline", "coalescing", "each"}

// benchServer starts an echo server and returns its address.
func benchServer(b *testing.B, kind string) string {
	switch kind {
	case "workers":
		return serve(b, engine.Config{Handler: echo}, Config{}).addr
	case "inline":
		return serve(b, engine.Config{Handler: echo, Dispatch: engine.Inline}, Config{}).addr
	default:
		return handWritten(b, kind == "coalescing")
	}
}

// BenchmarkEcho compares Millrace with echo servers written by hand on quic-go:
// one that answers each read in one write, and one that writes each message. The
// client, on the same CPUs, is the same for all, and checks every reply. Compare
// medians of several runs with -count 1, which take turns.
func BenchmarkEcho(b *testing.B) {
	for _, load := range []struct{ streams, inFlight int }{{1, 256}, {64, 1}, {64, 16}, {1, 1}} {
		for _, kind := range benchServers {
			b.Run(fmt.Sprintf("%dx%d/%s", load.streams, load.inFlight, kind), func(b *testing.B) {
				q := raw(b, benchServer(b, kind), nil, ALPN)
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime()
				var wg sync.WaitGroup
				for i := range load.streams {
					n := b.N / load.streams
					if i < b.N%load.streams {
						n++
					}
					wg.Go(func() {
						if err := askAndCheck(q, n, load.inFlight); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/msg")
			})
		}
	}
}

// BenchmarkStreamPerPacket compares servers whose clients open a stream for each
// Request, and finish it. Each connection has one request in flight. The metric
// cpu-ns/msg includes the client.
func BenchmarkStreamPerPacket(b *testing.B) {
	for _, connections := range []int{1, 100} {
		for _, kind := range benchServers {
			b.Run(fmt.Sprintf("%dx1/%s", connections, kind), func(b *testing.B) {
				benchRequests(b, benchServer(b, kind), connections, askOnce, ALPN)
			})
		}
	}
}

// BenchmarkMsgtrans is BenchmarkStreamPerPacket with unidirectional streams, the
// pattern of msgtrans up to 1.0.2.
func BenchmarkMsgtrans(b *testing.B) {
	for _, connections := range []int{1, 100} {
		for _, kind := range []string{"workers", "inline"} {
			b.Run(fmt.Sprintf("%dx1/%s", connections, kind), func(b *testing.B) {
				benchRequests(b, benchServer(b, kind), connections, askMsgtrans)
			})
		}
	}
}

// benchRequests makes b.N requests by ask, on so many connections at the same time.
func benchRequests(b *testing.B, addr string, connections int, ask func(*quic.Conn, uint32, []byte) error, protos ...string) {
	clients := make([]*quic.Conn, connections)
	for i := range clients {
		clients[i] = raw(b, addr, nil, protos...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for _, q := range clients {
		wg.Go(func() {
			buf := make([]byte, 1<<10)
			for id := left.Add(-1); id >= 0; id = left.Add(-1) {
				if err := ask(q, uint32(id), buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/msg")
}

// cpuTime returns the CPU time of this process, client and server, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// askAndCheck sends n requests on a stream of its own, with so many in flight,
// and checks the replies. Requests leave in as few writes as their replies come
// in reads.
func askAndCheck(q *quic.Conn, n, inFlight int) error {
	s, err := q.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	m := framing.Message{Type: framing.Request, Payload: make([]byte, benchPayload)}
	const size = framing.PacketHeaderSize + benchPayload
	in := bufio.NewReaderSize(s, 64<<10)
	out := make([]byte, 0, inFlight*size)
	reply := make([]byte, size)
	for sent, got := 0, 0; got < n; {
		out = out[:0]
		for sent < n && sent-got < inFlight {
			m.ID = uint32(sent)
			binary.BigEndian.PutUint32(m.Payload, ^m.ID)
			out, _ = framing.AppendPacket(out, &m)
			sent++
		}
		if _, err := s.Write(out); err != nil {
			return err
		}
		for more := true; more; more = in.Buffered() >= size {
			if _, err := io.ReadFull(in, reply); err != nil {
				return err
			}
			if id := binary.BigEndian.Uint32(reply[4:]); id != uint32(got) || binary.BigEndian.Uint32(reply[16:]) != ^id || reply[2] != 2 {
				return fmt.Errorf("reply %d is % x", got, reply)
			}
			got++
		}
	}
	return s.Close()
}

// askOnce sends a request on a stream of its own, finishes the stream, and checks
// that the reply is all that follows. It reads into buf.
func askOnce(q *quic.Conn, id uint32, buf []byte) error {
	s, err := q.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	return exchange(s, id, buf, func() (io.Reader, error) { return s, nil })
}

// askMsgtrans is askOnce on unidirectional streams.
func askMsgtrans(q *quic.Conn, id uint32, buf []byte) error {
	s, err := q.OpenUniStreamSync(context.Background())
	if err != nil {
		return err
	}
	return exchange(s, id, buf, func() (io.Reader, error) { return q.AcceptUniStream(context.Background()) })
}

// exchange writes a request to w, closes w, and checks that the reply is all that
// follows in the reader that answer returns.
func exchange(w io.WriteCloser, id uint32, buf []byte, answer func() (io.Reader, error)) error {
	m := framing.Message{Type: framing.Request, ID: id, Payload: buf[:benchPayload]}
	b, _ := framing.AppendPacket(make([]byte, 0, framing.PacketHeaderSize+benchPayload), &m)
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	r, err := answer()
	if err != nil {
		return err
	}
	n, err := io.ReadFull(r, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) || n != len(b) || binary.BigEndian.Uint32(buf[4:]) != id || buf[2] != 2 {
		return fmt.Errorf("the reply is % x, %v", buf[:n], err)
	}
	return nil
}

// handWritten is an echo server on plain quic-go.
func handWritten(b *testing.B, coalesce bool) string {
	l, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{developmentCertificate(b)}, NextProtos: []string{ALPN}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			q, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					s, err := q.AcceptStream(context.Background())
					if err != nil {
						return
					}
					go answer(s, coalesce)
				}
			}()
		}
	}()
	return l.Addr().String()
}

var answerBuffers = sync.Pool{New: func() any { return &[2][]byte{make([]byte, 64<<10), make([]byte, 0, 64<<10)} }}

// answer reads requests and writes responses.
func answer(s *quic.Stream, coalesce bool) {
	both := answerBuffers.Get().(*[2][]byte)
	defer answerBuffers.Put(both)
	buf, out, n := both[0], both[1], 0
	var m framing.Message
	for {
		k, err := s.Read(buf[n:])
		n += k
		out = out[:0]
		used := 0
		for used < n {
			size, err := framing.Packet{}.Decode(buf[used:n], 0, 1<<20, &m)
			if err != nil || size == 0 {
				break
			}
			used += size
			m.Type = framing.Response
			out, _ = framing.AppendPacket(out, &m)
			if !coalesce {
				_, _ = s.Write(out)
				out = out[:0]
			}
		}
		if len(out) > 0 {
			_, _ = s.Write(out)
		}
		n = copy(buf, buf[used:n])
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.CancelWrite(0)
			}
			_ = s.Close()
			return
		}
	}
}
