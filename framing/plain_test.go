package framing

import (
	"fmt"
	"testing"
)

// A field that a plain framing can't carry must not get lost in silence: the peer
// would take a part for the whole, or a cancellation for a request.
func TestPlainFramingsRefuseWhatWouldBeMisread(t *testing.T) {
	for _, s := range withRaw() {
		if s.isPacket() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			refuses(t, s.framer, &Message{Ext: []byte("x")})
			refuses(t, s.framer, &Message{Compression: CompressionZstd})
			refuses(t, s.framer, &Message{Flags: FlagFragmented})
			refuses(t, s.framer, &Message{Flags: FlagFailed, Type: Response})
			refuses(t, s.framer, &Message{Flags: FlagMore | FlagHighPriority, Type: Response})
			refuses(t, s.framer, &Message{Flags: FlagCancel})
		})
	}
}

// Fields that only describe a message are dropped, and the message is sent.
func TestPlainFramingsDropWhatOnlyDescribes(t *testing.T) {
	for _, s := range withRaw() {
		if s.isPacket() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			want := s.message(5, "hello")
			described := want
			described.Flags = FlagHighPriority | FlagRouteTag | 0x8000
			described.Type = Response
			described.BizType = 3
			described.Stream = 12
			described.Text = true
			described.Datagram = true
			fuzzAppend(t, s.framer, &described, &want)
			if _, err := s.framer.Append(nil, &described); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	b := make([]byte, 10)
	const maxInt = int(^uint(0) >> 1)
	for _, c := range []struct{ max, overhead, want int }{
		{0, 0, 0}, {0, 2, 2}, {5, 2, 7}, {8, 2, 10}, {9, 2, 10}, {5, 20, 10}, {maxInt, 20, 10},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			if got := len(window(b, c.max, c.overhead)); got != c.want {
				t.Errorf("%d bytes, want %d", got, c.want)
			}
		})
	}
}
