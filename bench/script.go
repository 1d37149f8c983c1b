package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/millrace/millrace/framing"
)

// A script is the bytes of a cycle of requests, and the bytes of their replies. Each
// session repeats the cycle from a different start. So a reply that is lost, repeated,
// out of order or sent to another session is a difference in the bytes. Verifying only
// compares bytes, and all sessions use the same script.
type script struct {
	frames   int // in a cycle
	requests stream
	replies  stream
}

// minCycle is the minimum number of frames in a cycle, so that IDs rarely repeat even
// if few requests are in flight.
const minCycle = 64

// newScript makes the script of cfg's load. Its cycle is at least twice the
// window, so that no two requests in flight have the same ID.
func newScript(cfg Config, t target) (*script, error) {
	seed := rand.NewChaCha8([32]byte{}) // the same bytes in every run
	random := rand.New(seed)
	frames := max(2*cfg.InFlight, minCycle)
	requests, replies := make([][]byte, frames), make([][]byte, frames)
	for i := range frames {
		size := cfg.Size
		if len(cfg.Sizes) > 0 {
			size = cfg.Sizes[random.IntN(len(cfg.Sizes))]
		}
		payload := make([]byte, size)
		_, _ = seed.Read(payload) // it never fails
		m := framing.Message{Type: framing.Request, ID: uint32(i + 1), Payload: payload}
		if cfg.OneWay {
			m.Type = framing.OneWay
		}
		request, err := framing.AppendPacket(nil, &m)
		if err != nil {
			return nil, fmt.Errorf("bench: script: %w", err)
		}
		if !cfg.Raw && !cfg.OneWay {
			m.Type = framing.Response
		}
		reply, err := framing.AppendPacket(nil, &m)
		if err != nil {
			return nil, fmt.Errorf("bench: script: %w", err)
		}
		if t.websocket() {
			request, reply = maskedFrame(request, random.Uint32()), plainFrame(reply)
		}
		requests[i], replies[i] = request, reply
	}
	return &script{frames: frames, requests: newStream(requests), replies: newStream(replies)}, nil
}

// WebSocket frame bits (RFC 6455 section 5.2).
const (
	wsFinBinary = 0x82
	wsMasked    = 0x80
)

// plainFrame is payload as a server's binary message.
func plainFrame(payload []byte) []byte {
	return append(wsHeader(len(payload), 0), payload...)
}

// maskedFrame is payload as a client's binary message. The mask is part of the
// script: this client doesn't need to protect proxies.
func maskedFrame(payload []byte, mask uint32) []byte {
	key := binary.BigEndian.AppendUint32(nil, mask)
	frame := append(wsHeader(len(payload), wsMasked), key...)
	for i, c := range payload {
		frame = append(frame, c^key[i%4])
	}
	return frame
}

func wsHeader(size int, masked byte) []byte {
	switch {
	case size < 126:
		return []byte{wsFinBinary, masked | byte(size)}
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16([]byte{wsFinBinary, masked | 126}, uint16(size))
	default:
		return binary.BigEndian.AppendUint64([]byte{wsFinBinary, masked | 127}, uint64(size))
	}
}
