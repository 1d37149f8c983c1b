package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/millrace/millrace/framing"
)

// A script is what a session says, and what it must hear: the bytes of a cycle
// of requests, and the bytes of their replies. Sessions walk round it, each from
// a place of its own, so that a reply which got lost, came twice, passed another
// or strayed to a neighbor shows as a difference in the bytes. Comparing them
// is all that verifying costs, and one script serves all sessions.
//
// Both byte streams stand twice in a row, so that any slice of up to a cycle is
// one piece.
type script struct {
	frames     int // in a cycle
	requests   []byte
	replies    []byte
	requestLen int // bytes of one request
	replyLen   int // bytes of one reply
}

// minCycle frames is the least that a cycle has, so that IDs differ for long
// also where few are in flight.
const minCycle = 64

// newScript makes the script of cfg's load. Its cycle is at least twice the
// window, so that no two requests in flight have the same ID.
func newScript(cfg Config, scheme string) (*script, error) {
	s := &script{frames: max(2*cfg.InFlight, minCycle)}
	random := rand.NewChaCha8([32]byte{}) // the same bytes in every run
	for i := range s.frames {
		payload := make([]byte, cfg.Size)
		_, _ = random.Read(payload) // it never fails
		m := framing.Message{Type: framing.Request, ID: uint32(i + 1), Payload: payload}
		request, err := framing.AppendPacket(nil, &m)
		if err != nil {
			return nil, fmt.Errorf("bench: script: %w", err)
		}
		if !cfg.Raw {
			m.Type = framing.Response
		}
		reply, err := framing.AppendPacket(nil, &m)
		if err != nil {
			return nil, fmt.Errorf("bench: script: %w", err)
		}
		if scheme == "ws" {
			request, reply = maskedFrame(request, uint32(random.Uint64())), plainFrame(reply)
		}
		s.requests = append(s.requests, request...)
		s.replies = append(s.replies, reply...)
		s.requestLen, s.replyLen = len(request), len(reply)
	}
	s.requests = append(s.requests, s.requests...)
	s.replies = append(s.replies, s.replies...)
	return s, nil
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
// script: this client guards no proxies.
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
