package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/framing"
)

// TestOneWriteARequest answers several requests at once, and checks that each request
// still comes with a Write of its own: a net.Pipe never joins two of them.
func TestOneWriteARequest(t *testing.T) {
	const window = 4
	size := framing.PacketHeaderSize + DefaultSize
	cfg := Config{
		URL: "tcp://127.0.0.1:1", Separate: true, Sessions: 1, InFlight: window, Duration: 50 * time.Millisecond, Warmup: -1,
	}.withDefaults()
	script, err := newScript(cfg, target{scheme: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	l := &load{cfg: cfg, script: script}
	l.from.Store(math.MaxInt64)
	l.to.Store(math.MaxInt64)
	conn, server := net.Pipe()
	l.carry(separate(l, conn))
	served := make(chan struct{})
	writes := int64(0)
	go func() {
		defer close(served)
		b := make([]byte, 10*size)
		var answers []byte
		for {
			var deadline time.Time
			if len(answers) > 0 {
				deadline = time.Now().Add(10 * time.Millisecond)
			}
			_ = server.SetReadDeadline(deadline)
			n, err := server.Read(b)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err != nil { // the last requests are fewer than a window
				_, _ = server.Write(answers)
				answers = answers[:0]
				continue
			}
			if n != size {
				t.Errorf("a Write of %d bytes, want %d", n, size)
			}
			writes++
			b[2] = byte(framing.Response)
			answers = append(answers, b[:n]...)
			if len(answers) == window*size {
				if _, err := server.Write(answers); err != nil {
					return
				}
				answers = answers[:0]
			}
		}
	}()
	r, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	<-served
	if r.Verified == 0 || r.Verified != writes || r.Samples == 0 || r.Errors > 0 {
		t.Errorf("%d writes, %+v", writes, r)
	}
}

// serveStreams answers the bytes of each stream with what reply makes of them, and
// counts the streams.
func serveStreams(t *testing.T, reply func([]byte) []byte) (url string, count *atomic.Int64) {
	t.Helper()
	https := httptest.NewTLSServer(nil) // for its certificate
	https.Close()
	listener, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: https.TLS.Certificates, NextProtos: []string{quicALPN}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	count = new(atomic.Int64)
	serve := func(stream *quic.Stream) {
		b, err := io.ReadAll(stream)
		if err != nil {
			return
		}
		count.Add(1)
		_, _ = stream.Write(reply(b)) // the client notices a missing reply
		stream.Close()
	}
	go func() {
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					stream, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					go serve(stream)
				}
			}()
		}
	}()
	return "quic://" + listener.Addr().String(), count
}

// respond makes the Response of one packet.
func respond(b []byte) []byte {
	b = bytes.Clone(b)
	b[2] = byte(framing.Response)
	return b
}

// TestStreamARequest checks that each request has a stream of its own, with nothing else.
func TestStreamARequest(t *testing.T) {
	url, streams := serveStreams(t, respond)
	cfg := short(url)
	cfg.Separate, cfg.InFlight, cfg.Streams, cfg.Insecure = true, 1, 3, true
	r, err := Run(t.Context(), cfg)
	if err != nil || r.Errors > 0 || r.Verified == 0 || r.Verified != streams.Load() {
		t.Errorf("%d streams, %+v, %v", streams.Load(), r, err)
	}
}

// TestBeforeDial checks that it is called before each session, in order, and ends Run.
func TestBeforeDial(t *testing.T) {
	var accepted atomic.Int64
	cfg := short("tcp://" + acceptEach(t, func(conn net.Conn) { accepted.Add(1); echoRaw(conn) }))
	cfg.Raw = true
	var numbers []int
	cfg.BeforeDial = func(session int) error {
		numbers = append(numbers, session)
		return nil
	}
	if r, err := Run(t.Context(), cfg); err != nil || r.Errors > 0 || !slices.Equal(numbers, []int{0, 1, 2}) {
		t.Errorf("%v, %+v, %v", numbers, r, err)
	}
	refused := errors.New("refused")
	cfg.BeforeDial = func(int) error { return refused }
	before := accepted.Load()
	if r, err := Run(t.Context(), cfg); r != nil || !errors.Is(err, refused) || accepted.Load() != before {
		t.Errorf("%+v, %v, %d accepted", r, err, accepted.Load()-before)
	}
}

// TestSeparateFaults checks that a wrong, a short and an additional reply are found.
func TestSeparateFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func([]byte) []byte
		kind  string
	}{
		{"wrong", func(b []byte) []byte { b[len(b)-1]++; return b }, FaultWrongReply},
		{"short", func(b []byte) []byte { return b[:len(b)-1] }, FaultLost},
		{"none", func([]byte) []byte { return nil }, FaultLost},
		{"twice", func(b []byte) []byte { return append(b, b...) }, FaultWrongReply},
	} {
		url, _ := serveStreams(t, func(b []byte) []byte { return c.spoil(respond(b)) })
		cfg := short(url)
		cfg.Separate, cfg.InFlight, cfg.Insecure = true, 1, true
		r, err := Run(t.Context(), cfg)
		if err != nil || r.Errors != cfg.Sessions || r.Faults[c.kind] != r.Errors {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
	wrong := acceptEach(t, echoPackets(func(number int, answer []byte) []byte {
		answer[len(answer)-1] ^= byte(number / 10)
		return answer
	}))
	cfg := short("tcp://" + wrong)
	cfg.Separate = true
	r, err := Run(t.Context(), cfg)
	if err != nil || r.Faults[FaultWrongReply] != cfg.Sessions || !strings.Contains(r.FirstError, "differs") {
		t.Errorf("%+v, %v", r, err)
	}
}
