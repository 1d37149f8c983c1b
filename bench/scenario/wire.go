package main

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/framing"
)

// A wire makes the bytes of one session's requests and of their replies, on
// tcp or ws. Every request of a fleet differs from every other.
type wire struct {
	transport string // tcp or ws
	host      string // for the upgrade
}

// probeSize is the payload of a probing request, in bytes.
const probeSize = 16

// probe returns session number's request in its turn, and the reply that is due.
func (w wire) probe(number, turn uint32) (request, reply []byte) {
	payload := binary.BigEndian.AppendUint32(nil, number)
	payload = binary.BigEndian.AppendUint32(payload, turn)
	payload = binary.BigEndian.AppendUint64(payload, uint64(number)*0x9e3779b97f4a7c15^uint64(turn))
	m := framing.Message{Type: framing.Request, ID: turn, Payload: payload}
	request = mustPacket(&m)
	m.Type = framing.Response
	reply = mustPacket(&m)
	if w.transport == "ws" {
		// RFC 6455 section 5.2: a final binary frame, the client's masked.
		key := binary.BigEndian.AppendUint32(nil, number^0x5a5aa5a5)
		frame := append([]byte{0x82, 0x80 | byte(len(request))}, key...)
		for i, c := range request {
			frame = append(frame, c^key[i%4])
		}
		request, reply = frame, append([]byte{0x82, byte(len(reply))}, reply...)
	}
	return request, reply
}

// upgrade is the request that opens a WebSocket, with the same key for
// all: this client doesn't need to protect a cache.
func (w wire) upgrade() []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: bWlsbHJhY2UtbG9hZC1nZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", wsPath, w.host)
}

// mustPacket encodes a message that this program made itself.
func mustPacket(m *framing.Message) []byte {
	b, err := framing.AppendPacket(nil, m)
	if err != nil {
		panic(err) // a bug in this program: all its messages are encodable
	}
	return b
}
