package engine

// FormCodec, for protocol authors, is implemented by a Codec whose encoding may be
// shared: Append depends on nothing but the message, and all codecs of the same Form
// append the same bytes. A Frame to such a session is encoded once for the Form, and not
// for the session.
type FormCodec interface {
	Codec
	// Form returns the codec's form in this session, or 0 if its encoding cannot be
	// shared (masked WebSocket frames). It is called under the same rules as Append, for
	// each frame, after the session has opened; the result must not change then.
	Form() Form
}

// HeaderCodec, for protocol authors, is implemented by a Codec whose encoding of a
// message is a header and then m.Payload, unchanged. SendOwned to such a session copies
// no large payload.
type HeaderCodec interface {
	Codec
	// AppendHeader appends what Append appends before m.Payload. It is called under the
	// same rules. If it fails, because m cannot be encoded in this way or at all, Append
	// is called.
	AppendHeader(dst []byte, m *Message) ([]byte, error)
}

// SharingLink, for protocol authors, is implemented by a Link that queues large messages
// without a copy. The methods are called under the same rules as Send. The messages to
// other Links are sent by Send.
type SharingLink interface {
	Link
	// SendFrame is Send of f.Message(); Outbox.AppendFrame queues it.
	SendFrame(f *Frame) error

	// SendOwned is Send of m, never a datagram, whose payload does not change until
	// release is called.
	// Outbox.AppendOwned queues it. If SendOwned returns nil, the Link must call release
	// exactly once, on a goroutine of its own and without a lock. After an error it must
	// not call release. m itself is borrowed until SendOwned returns.
	SendOwned(m *Message, release func()) error
}
