package peer

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/framing"
)

// TestAppendReplies cuts a stream of three packets at each of its bytes.
func TestAppendReplies(t *testing.T) {
	var in, want []byte
	var ends []int
	for i, kind := range []framing.Type{framing.Request, framing.OneWay, framing.Request} {
		m := framing.Message{Type: kind, ID: uint32(i), Payload: bytes.Repeat([]byte{7}, i)}
		in, _ = framing.AppendPacket(in, &m)
		if kind == framing.Request {
			m.Type = framing.Response
		}
		want, _ = framing.AppendPacket(want, &m)
		ends = append(ends, len(in))
	}
	for cut := range len(in) + 1 {
		whole := 0
		for _, end := range ends {
			if end <= cut {
				whole = end
			}
		}
		out, taken, err := AppendReplies(nil, in[:cut])
		if err != nil || taken != whole || !bytes.Equal(out, want[:whole]) {
			t.Errorf("cut at %d: %x, %d, %v; want %x", cut, out, taken, err, want[:whole])
		}
	}
	if _, _, err := AppendReplies(nil, make([]byte, 16)); err == nil {
		t.Error("sixteen zeros are no packet")
	}
}

func TestPacketSize(t *testing.T) {
	packet, _ := framing.AppendPacket(nil, &framing.Message{Ext: []byte("ext"), Payload: []byte("payload")})
	if n, err := PacketSize(packet[:framing.PacketHeaderSize]); err != nil || n != len(packet) {
		t.Errorf("%d, %v; want %d", n, err, len(packet))
	}
	packet[10] = 0xff
	if _, err := PacketSize(packet[:framing.PacketHeaderSize]); err == nil {
		t.Error("no error for 4 GiB")
	}
}
