package main

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/framing"
)

// The return codes of a CONNACK packet (section 3.2.2.3).
const (
	accepted          = 0
	badVersion        = 1
	badIdentifier     = 2
	serverUnavailable = 3
	notAuthorized     = 5
)

// connect is the content of a CONNECT packet (section 3.1).
type connect struct {
	clientID, user, password string
	keepAlive                time.Duration
	will                     *framing.Message // nil without one
}

// connectKey is the key of a session's *connect: Authorizers and the handler use it.
type connectKey struct{}

// refusal is the error for a CONNECT packet that is answered by a return code.
type refusal byte

func (r refusal) Error() string {
	return fmt.Sprintf("mqtt: CONNECT is refused with return code %d", byte(r))
}

// Unwrap makes the engine count a refusal as a protocol error.
func (r refusal) Unwrap() error { return framing.ErrMalformed }

// The bits of the connect flags (section 3.1.2.3).
const (
	flagReserved     = 1 << 0
	flagCleanSession = 1 << 1
	flagWill         = 1 << 2
	flagPassword     = 1 << 6
	flagUser         = 1 << 7
)

// parseConnect parses the variable header and the payload of a CONNECT packet.
func parseConnect(body []byte) (*connect, error) {
	r := reader{b: body}
	if name := r.text(); name != "MQTT" || r.bad { // section 3.1.2.1
		return nil, malformed("the protocol name is %.20q", name)
	}
	if version := r.byte(); version != 4 && !r.bad { // section 3.1.2.2
		return nil, refusal(badVersion)
	}
	flags := r.byte()
	willQoS := flags >> 3 & 3
	switch {
	case flags&flagReserved != 0, willQoS == 3, // sections 3.1.2.3 and 3.1.2.6
		flags&flagWill == 0 && flags>>3&7 != 0,         // sections 3.1.2.6 and 3.1.2.7
		flags&flagPassword != 0 && flags&flagUser == 0: // section 3.1.2.9
		return nil, malformed("the connect flags are %#x", flags)
	}
	c := &connect{keepAlive: time.Duration(r.uint16()) * time.Second}
	c.clientID = r.text()
	if flags&flagWill != 0 {
		c.will = &framing.Message{BizType: publish, Ext: []byte(r.text()), Payload: append([]byte(nil), r.bytes()...)}
		if !r.bad && !validTopic(c.will.Ext) {
			return nil, malformed("the topic of the will is %.40q", c.will.Ext)
		}
	}
	if flags&flagUser != 0 {
		c.user = r.text()
	}
	if flags&flagPassword != 0 {
		c.password = string(r.bytes())
	}
	switch {
	case r.bad || len(r.b) > 0:
		return nil, malformed("CONNECT has another length than its fields")
	case c.clientID == "" && flags&flagCleanSession == 0: // section 3.1.3.1
		return nil, refusal(badIdentifier)
	}
	return c, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: mqtt: %s", framing.ErrMalformed, fmt.Sprintf(format, args...))
}

// reader takes fields from the start of b. bad is set if b was too short for one, or a
// string was not valid; later fields are then empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// uint16 takes an integer (section 1.5.2).
func (r *reader) uint16() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

// bytes takes a length and as many bytes, which are borrowed.
func (r *reader) bytes() []byte { return r.take(r.uint16()) }

// string takes an UTF-8 string (section 1.5.3), which is borrowed.
func (r *reader) string() []byte {
	b := r.bytes()
	if !validText(b) {
		r.bad = true
	}
	return b
}

func (r *reader) text() string { return string(r.string()) }

// validText reports whether b is UTF-8 without U+0000 (section 1.5.3).
func validText(b []byte) bool {
	for _, c := range b {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(b)
}

// validTopic reports whether b names a topic: it is text, not empty (section 4.7.3), and
// has no wildcard (section 3.3.2.1).
func validTopic(b []byte) bool {
	for _, c := range b {
		if c == '+' || c == '#' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxText && validText(b)
}
