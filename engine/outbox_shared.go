package engine

import "sync"

// smallMessage is the size in bytes from which on a queue that is not empty refers to
// shared or owned bytes. Below it a copy into the last block takes less CPU time, because
// each reference is another part of a writev. Measured with 16 messages a write, for a
// message with its part of the write: 290 ns to copy and 413 ns to refer to 512 bytes,
// 492 and 515 ns for 1 KiB, 1,448 and 1,444 ns for 4 KiB. From 1 KiB on the memory that
// references save is worth the difference.
const smallMessage = 1 << 10

// sharedBlocks holds blocks without memory of their own.
var sharedBlocks = sync.Pool{New: func() any { return &block{shared: true} }}

// sharedBlock returns a block that refers to b. free calls release, if it is not nil, on
// a goroutine of its own.
func sharedBlock(b []byte, release func()) *block {
	bl := sharedBlocks.Get().(*block)
	bl.b, bl.release = b[:len(b):len(b)], release
	return bl
}

// freeShared is free for a shared block. release is the application's, and a lock is
// held: it needs another goroutine.
func (b *block) freeShared() {
	release := b.release
	*b = block{shared: true}
	sharedBlocks.Put(b)
	if release != nil {
		go release()
	}
}

// AppendFrame is Append of f's message, encoded by enc, whose Form is given. The queue
// refers to f's bytes, which are encoded once for all outboxes; it copies them if they are
// below 1 KiB and others are queued. All of them count for OutboxLimit. If form is 0, it
// is Append.
func (o *Outbox) AppendFrame(form Form, enc Appender, f *Frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.appendFrame(form, enc, f)
}

// appendFrame is AppendFrame with o.mu held.
func (o *Outbox) appendFrame(form Form, enc Appender, f *Frame) error {
	if form == 0 {
		return o.append(enc, &f.m)
	}
	if err := o.admit(len(f.m.Payload) + len(f.m.Ext)); err != nil {
		return err
	}
	e := f.encoded(form, enc)
	if e.err != nil || len(e.b) == 0 || len(e.b) < smallMessage && o.queue.tail != nil {
		return o.encode(e, nil, len(e.b))
	}
	// Alone in the queue, a small frame takes a reference too, and not a block of 4 KiB.
	o.pushShared(sharedBlock(e.b, nil), 1)
	return nil
}

// pushShared puts b at the end of the queue. With o.mu held.
func (o *Outbox) pushShared(b *block, messages int) {
	b.messages = messages
	o.messages += messages
	o.pending += len(b.b)
	o.queue.push(b)
}

// headerAppender is an Appender whose encoding of a message ends with its payload.
type headerAppender interface {
	Appender
	AppendHeader(dst []byte, m *Message) ([]byte, error)
}

// header is a headerAppender that appends headers only.
type header struct{ headerAppender }

func (h header) Append(dst []byte, m *Message) ([]byte, error) { return h.AppendHeader(dst, m) }

// AppendOwned is Append that does not copy m.Payload if it has 1 KiB or more and enc has
// the method AppendHeader of a HeaderCodec. The payload must not change until release is
// called. If AppendOwned returns nil, release is called exactly once, on a goroutine of
// its own: when the payload is written, dropped or copied. After an error it is not
// called.
func (o *Outbox) AppendOwned(enc Appender, m *Message, release func()) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.appendOwned(enc, m, release)
}

// appendOwned is AppendOwned with o.mu held.
func (o *Outbox) appendOwned(enc Appender, m *Message, release func()) error {
	size := len(m.Payload) + len(m.Ext)
	if err := o.admit(size); err != nil {
		return err
	}
	if h, ok := enc.(headerAppender); ok && len(m.Payload) >= smallMessage {
		before := o.messages
		if o.encode(header{h}, m, len(m.Ext)+encodeSlack) == nil {
			b := sharedBlock(m.Payload, release)
			b.rest = o.messages > before // else the header is empty
			o.pushShared(b, before+1-o.messages)
			return nil
		}
	}
	err := o.encode(enc, m, size+encodeSlack)
	if err == nil {
		go release()
	}
	return err
}
