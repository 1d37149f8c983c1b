package framing_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/framing"
)

// Two packets arrive in three pieces, none of which is a packet. An incomplete
// frame is kept, and seen is how much of it the framer has already searched.
func ExamplePacket() {
	var wire []byte
	wire, _ = framing.AppendPacket(wire, &framing.Message{Type: framing.Request, ID: 2, Payload: []byte("ping")})
	wire, _ = framing.AppendPacket(wire, &framing.Message{ID: 3, Payload: []byte("hello")})

	const max = 1 << 20
	var packet framing.Packet
	var m framing.Message
	var tail []byte
	for _, piece := range [][]byte{wire[:7], wire[7:30], wire[30:]} {
		seen := len(tail)
		tail = append(tail, piece...)
		for {
			n, err := packet.Decode(tail, seen, max, &m)
			if err != nil {
				fmt.Println(err)
				return
			}
			if n == 0 {
				break
			}
			fmt.Printf("type %d, id %d: %s\n", m.Type, m.ID, m.Payload)
			tail, seen = tail[n:], 0
		}
	}
	// Output:
	// type 1, id 2: ping
	// type 0, id 3: hello
}

func ExampleMuxLine() {
	client := framing.MuxLine{Role: framing.Client}
	server := framing.MuxLine{} // the zero value is a server's
	line, _ := client.Append(nil, &framing.Message{ID: 10, Payload: []byte("What time is it?")})
	fmt.Printf("%q\n", line)

	var m framing.Message
	_, err := server.Decode(line, 0, 100, &m)
	fmt.Println(m.Type == framing.Request, m.ID, string(m.Payload), err)

	_, err = client.Append(nil, &framing.Message{Payload: []byte("two\nlines")})
	fmt.Println(errors.Is(err, framing.ErrUnencodable))
	// Output:
	// "\x00\x00\x00\nWhat time is it?\n"
	// true 10 What time is it? <nil>
	// true
}

func ExampleLengthPrefix_Validate() {
	fmt.Println(framing.LengthPrefix{Varint: true}.Validate())
	fmt.Println(framing.LengthPrefix{Size: 3}.Validate())
	// Output:
	// <nil>
	// framing: invalid setting: LengthPrefix.Size is 3, must be 1, 2, 4 or 8 (or 0 for 4)
}

// Netstring is a framing of the user's own: the payload's length in decimal, a
// colon, the payload, a comma.
type Netstring struct{}

// Decode implements framing.Framer.
func (Netstring) Decode(b []byte, _, max int, m *framing.Message) (int, error) {
	const digits = 10 // enough for any max that fits 32 bits; it bounds the search
	colon := bytes.IndexByte(b[:min(len(b), digits+1)], ':')
	if colon < 0 {
		if len(b) > digits {
			return 0, fmt.Errorf("%w: netstring without a colon", framing.ErrMalformed)
		}
		return 0, nil
	}
	size, err := strconv.ParseUint(string(b[:colon]), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: netstring length %q", framing.ErrMalformed, b[:colon])
	}
	if size > uint64(max) {
		return 0, fmt.Errorf("%w: netstring of %d bytes, limit %d", framing.ErrTooLarge, size, max)
	}
	start := colon + 1
	if uint64(len(b)-start) <= size {
		return 0, nil
	}
	end := start + int(size)
	if b[end] != ',' {
		return 0, fmt.Errorf("%w: netstring without a comma", framing.ErrMalformed)
	}
	*m = framing.Message{Payload: b[start:end:end]} // sets every field
	return end + 1, nil
}

// Append implements framing.Framer.
func (Netstring) Append(dst []byte, m *framing.Message) ([]byte, error) {
	if len(m.Ext) != 0 || m.Compression != framing.CompressionNone || m.Flags != 0 {
		return dst, fmt.Errorf("%w: a netstring is a payload and nothing else", framing.ErrUnencodable)
	}
	dst = strconv.AppendInt(dst, int64(len(m.Payload)), 10)
	dst = append(dst, ':')
	dst = append(dst, m.Payload...)
	return append(dst, ','), nil
}

func ExampleFramer() {
	var framer framing.Framer = Netstring{}
	wire, _ := framer.Append(nil, &framing.Message{Payload: []byte("hello world!")})
	fmt.Printf("%s\n", wire)

	var m framing.Message
	n, err := framer.Decode(wire, 0, 100, &m)
	fmt.Printf("%d %s %v\n", n, m.Payload, err)
	n, err = framer.Decode(wire[:9], 0, 100, &m)
	fmt.Println(n, err)
	_, err = framer.Decode(wire, 0, 10, &m)
	fmt.Println(err)
	// Output:
	// 12:hello world!,
	// 16 hello world! <nil>
	// 0 <nil>
	// framing: message too large: netstring of 12 bytes, limit 10
}
