package engine

import (
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

// Form, for protocol authors, is an encoding of messages: two codecs of the same Form
// encode every message as the same bytes, so that a Frame is encoded once for both. The
// zero value means that an encoding cannot be shared.
type Form uint32

// FormPacket is the Form of packets (docs/WIRE.md section 1).
const FormPacket Form = 1

var lastForm atomic.Uint32

func init() { lastForm.Store(uint32(FormPacket)) }

// NewForm returns a Form that no other call returns. A protocol makes its forms once, not
// one for each session. It does not block, and may be called from anywhere.
func NewForm() Form { return Form(lastForm.Add(1)) }

// Frame is a message for many sessions: Session.SendFrame queues it by reference. Its
// bytes are encoded once for each Form, by the first session that needs that Form, and
// the sessions of all cores and transports share them. So a Frame to n sessions takes the
// memory of one message, and not of n.
//
// Any goroutine may use a Frame, any number of times. It needs no release: the garbage
// collector frees it when neither the program nor an outbox refers to it. The zero Frame
// is an empty message. A Frame must not be copied.
type Frame struct {
	m         Message // its bytes are packet's if it has some
	packet    encoding
	mu        sync.Mutex               // held while a form is encoded
	encodings atomic.Pointer[encoding] // a list; the newest first
}

// encoding is a Frame in one Form. It does not change.
type encoding struct {
	form Form
	b    []byte
	err  error // the codec's, instead of b
	next *encoding
}

// NewFrame returns a Frame of a copy of m, of all its fields. The sessions get the same
// ID: for messages that expect no answer it has no meaning, and may be 0. It does not
// block, and may be called from anywhere. A message that a transport cannot encode is an
// error of SendFrame.
func NewFrame(m *Message) *Frame {
	f := &Frame{}
	b, err := framing.AppendPacket(make([]byte, 0, framing.PacketHeaderSize+len(m.Ext)+len(m.Payload)), m)
	if err != nil { // a codec may still be able to encode it
		f.m = *m.Clone()
		return f
	}
	// The packet's bytes are also the copy of m's.
	f.m = *m
	body := b[framing.PacketHeaderSize:]
	f.m.Ext, f.m.Payload = body[:len(m.Ext):len(m.Ext)], body[len(m.Ext):]
	f.packet = encoding{form: FormPacket, b: b}
	f.encodings.Store(&f.packet)
	return f
}

// Message returns the message of f. It is shared: do not write to it or to its bytes.
func (f *Frame) Message() *Message { return &f.m }

// encoded returns f in a form, which must not be 0. The first call for the form calls
// enc.Append; other goroutines that need a new form wait for it meanwhile, because that
// takes no longer than to encode it as well, and no memory. If enc panics, so does
// encoded, and the next call tries again.
func (f *Frame) encoded(form Form, enc Appender) *encoding {
	if e := f.find(form); e != nil {
		return e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.find(form); e != nil {
		return e
	}
	e := &encoding{form: form, next: f.encodings.Load()}
	e.b, e.err = enc.Append(make([]byte, 0, len(f.m.Ext)+len(f.m.Payload)+encodeSlack), &f.m)
	f.encodings.Store(e)
	return e
}

func (f *Frame) find(form Form) *encoding {
	e := f.encodings.Load()
	for e != nil && e.form != form {
		e = e.next
	}
	return e
}

// Append implements Appender: it appends a copy of the encoding.
func (e *encoding) Append(dst []byte, _ *Message) ([]byte, error) { return append(dst, e.b...), e.err }
