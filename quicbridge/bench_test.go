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
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

const benchPayload = 64 // bytes

// BenchmarkEcho compares Millrace with echo servers written by hand on quic-go:
// one that answers each read in one write, and one that writes each message. The
// client, on the same CPUs, is the same for all, and checks every reply. Compare
// medians of several runs with -count 1, which take turns.
func BenchmarkEcho(b *testing.B) {
	for _, load := range []struct{ streams, inFlight int }{{1, 256}, {64, 1}, {64, 16}, {1, 1}} {
		for _, kind := range []string{"workers", "inline", "coalescing", "each"} {
			b.Run(fmt.Sprintf("%dx%d/%s", load.streams, load.inFlight, kind), func(b *testing.B) {
				var addr string
				switch kind {
				case "workers":
					addr = serve(b, engine.Config{Handler: echo}, Config{}).addr
				case "inline":
					addr = serve(b, engine.Config{Handler: echo, Dispatch: engine.Inline}, Config{}).addr
				default:
					addr = handWritten(b, kind == "coalescing")
				}
				q := raw(b, addr, nil, ALPN)
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

// answer reads requests and writes responses.
func answer(s *quic.Stream, coalesce bool) {
	buf, out, n := make([]byte, 64<<10), make([]byte, 0, 64<<10), 0
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
