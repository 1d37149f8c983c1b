package engine

import (
	"bytes"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// newTestOutbox returns an outbox of a limit in bytes, which is emptied at the end.
func newTestOutbox(t *testing.T, limit int, policy SlowConsumerPolicy) *Outbox {
	t.Helper()
	o := &Outbox{}
	t.Cleanup(func() {
		o.Discard(ErrClosed) // its blocks are accounted for
		drainOutbox(o, math.MaxInt)
	})
	o.Init(&Limits{OutboxLimit: limit, OutboxSoftMark: limit, MaxMessageSize: limit, SlowConsumer: policy})
	return o
}

// drainOutbox writes all of o in pieces of at most n bytes.
func drainOutbox(o *Outbox, n int) (wire []byte) {
	for b := o.Next(); len(b) > 0; b = o.Next() {
		b = b[:min(n, len(b))]
		wire = append(wire, b...)
		o.Done(len(b))
	}
	return wire
}

// inside reports whether part is in the memory of whole.
func inside(part, whole []byte) bool {
	p, w := uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return p >= w && p < w+uintptr(len(whole))
}

// released counts calls of a release function.
type released struct{ atomic.Int32 }

func (r *released) release() { r.Add(1) }

func (r *released) await(t testing.TB, n int32) {
	t.Helper()
	testkit.Eventually(t, func() bool { return r.Load() >= n }, "release")
	if got := r.Load(); got != n {
		t.Fatalf("%d releases, want %d", got, n)
	}
}

// TestOutboxSharesFrames: an outbox refers to the frame's bytes, except to small ones
// behind others.
func TestOutboxSharesFrames(t *testing.T) {
	for _, size := range []int{0, 10, smallMessage - framing.PacketHeaderSize - 1, smallMessage, 1 << 16} {
		m := &framing.Message{ID: 7, Payload: bytes.Repeat([]byte("x"), size)}
		f := NewFrame(m)
		want, _ := framing.AppendPacket(nil, m)
		o := newTestOutbox(t, 1<<20, SlowConsumerClose)
		for range 2 {
			if err := o.AppendFrame(FormPacket, packets{}, f); err != nil {
				t.Fatal(err)
			}
		}
		if o.Pending() != 2*len(want) {
			t.Errorf("%d bytes: %d pending, want %d", size, o.Pending(), 2*len(want))
		}
		for i := range 2 {
			b := o.Next()
			shared := len(want) >= smallMessage || i == 0
			if !bytes.Equal(b, want) || inside(b, f.packet.b) != shared {
				t.Errorf("%d bytes, frame %d: right %t, shared %t", size, i, bytes.Equal(b, want), inside(b, f.packet.b))
			}
			o.Done(len(b))
		}
		if o.Pending() != 0 {
			t.Errorf("%d bytes: %d are left", size, o.Pending())
		}
	}
}

// TestOutboxNeverWritesToAFrame: bytes that are appended behind a frame go elsewhere, and
// its memory does not come back from a pool.
func TestOutboxNeverWritesToAFrame(t *testing.T) {
	const size = 1 << minBlockBits // that of a pooled block
	f := NewFrame(&framing.Message{Payload: bytes.Repeat([]byte("x"), size-framing.PacketHeaderSize)})
	small := NewFrame(&framing.Message{Payload: []byte("yyyyyyyyyy")})
	loose := NewForm() // its encoding has spare capacity
	want, spare := bytes.Clone(f.packet.b), f.encoded(loose, packets{}).b
	spare = spare[len(spare):cap(spare)]
	o := newTestOutbox(t, 1<<20, SlowConsumerClose)
	for range 100 {
		for range 3 {
			_ = o.AppendFrame(FormPacket, packets{}, f)
			_ = o.AppendFrame(loose, packets{}, f)
			_ = o.AppendFrame(FormPacket, packets{}, small)
		}
		drainOutbox(o, math.MaxInt)
		b := newBlock(size)
		if inside(b.b[:1], f.packet.b) {
			t.Fatal("a frame's memory is in a pool")
		}
		b.free()
	}
	if len(spare) < 10+framing.PacketHeaderSize || !bytes.Equal(spare, make([]byte, len(spare))) || !bytes.Equal(f.packet.b, want) {
		t.Error("the frame has changed")
	}
}

// TestOutboxQueuesNothingForEmptyFrames: an empty message has no bytes in some framings.
func TestOutboxQueuesNothingForEmptyFrames(t *testing.T) {
	o := newTestOutbox(t, 1<<20, SlowConsumerClose)
	if err := o.AppendFrame(NewForm(), Framed(framing.Raw{}).Accept(nil), &Frame{}); err != nil || o.queue.head != nil || o.messages != 0 {
		t.Errorf("%v, %d messages", err, o.messages)
	}
}

// TestSmallMessagesBehindSharedOnesTakeSmallBlocks: the queue grows its blocks with its
// own bytes.
func TestSmallMessagesBehindSharedOnesTakeSmallBlocks(t *testing.T) {
	restoreMemory(t) // its outbox keeps its blocks
	f := NewFrame(&framing.Message{Payload: make([]byte, 64<<10)})
	o := newTestOutbox(t, 1<<20, SlowConsumerClose)
	for range 3 {
		_ = o.AppendFrame(FormPacket, packets{}, f)
		_ = o.Append(packets{}, &framing.Message{})
	}
	for b := o.queue.head; b != nil; b = b.next {
		if !b.shared && cap(b.b) > minBlockSize {
			t.Errorf("a block of %d bytes holds %d", cap(b.b), len(b.b))
		}
	}
}

// TestOutboxOwnsPayloads: a large payload is not copied, and released when its last byte
// is done; a small one is copied.
func TestOutboxOwnsPayloads(t *testing.T) {
	for name, enc := range map[string]Appender{
		"packets": packets{}, "framed": Framed(framing.Packet{}).Accept(nil).(*framed), "raw": Framed(framing.Raw{}).Accept(nil).(*framed),
		"prefix": Framed(framing.LengthPrefix{}).Accept(nil).(*framed), // which has no AppendHeader
	} {
		for _, size := range []int{1, smallMessage - 1, smallMessage, 100_000} {
			var r released
			m := &framing.Message{Payload: bytes.Repeat([]byte("x"), size), Ext: nil}
			want, _ := enc.Append(nil, m)
			o := newTestOutbox(t, 1<<20, SlowConsumerClose)
			if err := o.AppendOwned(enc, m, r.release); err != nil {
				t.Fatal(name, err)
			}
			if o.Pending() != len(want) || o.messages != 1 {
				t.Errorf("%s: %d bytes of %d messages, want %d of 1", name, o.Pending(), o.messages, len(want))
			}
			shared := inside(o.queue.tail.b, m.Payload)
			if shared != (size >= smallMessage && name != "prefix") {
				t.Errorf("%s: %d bytes: shared %t", name, size, shared)
			}
			_ = o.appendControl([]byte("control")) // it comes before a message that is not begun
			want = append([]byte("control"), want...)
			var wire []byte
			for b := o.Next(); len(b) > 0; b = o.Next() {
				if shared && r.Load() > 0 {
					t.Fatalf("%s: released with %d bytes left", name, o.Pending())
				}
				b = b[:min(len(b), 1000)]
				wire = append(wire, b...)
				o.Done(len(b))
			}
			if !bytes.Equal(wire, want) {
				t.Errorf("%s: %d bytes, want %d", name, len(wire), len(want))
			}
			r.await(t, 1)
		}
	}
}

// TestOutboxRefusesOwned: after an error the caller keeps the payload, and nothing is
// queued.
func TestOutboxRefusesOwned(t *testing.T) {
	var r released
	unencodable := &framing.Message{Type: 9, Payload: make([]byte, smallMessage)}
	o := newTestOutbox(t, 10_000, SlowConsumerDropNewest)
	for _, c := range []struct {
		m    *framing.Message
		want error
	}{
		{unencodable, framing.ErrUnencodable},
		{&framing.Message{Payload: make([]byte, 10_001)}, ErrTooLarge},
		{&framing.Message{Payload: make([]byte, 10_000)}, ErrDropped},
	} {
		if err := o.AppendOwned(packets{}, c.m, r.release); !errors.Is(err, c.want) || o.Pending() != 0 {
			t.Errorf("%v with %d bytes pending, want %v", err, o.Pending(), c.want)
		}
		if err := o.AppendFrame(FormPacket, packets{}, NewFrame(c.m)); !errors.Is(err, c.want) || o.Pending() != 0 {
			t.Errorf("frame: %v with %d bytes pending, want %v", err, o.Pending(), c.want)
		}
	}
	o.Close(ErrClosed)
	m := &framing.Message{Payload: make([]byte, smallMessage)}
	if err := o.AppendOwned(packets{}, m, r.release); err != ErrClosed {
		t.Error(err)
	}
	if err := o.AppendFrame(FormPacket, packets{}, NewFrame(m)); err != ErrClosed {
		t.Error(err)
	}
	if r.Load() != 0 {
		t.Errorf("%d releases", r.Load())
	}
}

// TestControlFramesStayOutsideOfOwnedMessages: wherever the write of an owned message has
// stopped, a control frame comes before or after all of it.
func TestControlFramesStayOutsideOfOwnedMessages(t *testing.T) {
	m := &framing.Message{ID: 1, Payload: bytes.Repeat([]byte("x"), smallMessage)}
	whole, _ := framing.AppendPacket(nil, m)
	control := []byte("control")
	for written := range len(whole) + 1 {
		o := newTestOutbox(t, 1<<20, SlowConsumerClose)
		_ = o.AppendOwned(packets{}, m, func() {})
		var wire []byte
		step := func(n int) {
			chain := o.take()
			for b, left := chain, n; b != nil && left > 0; b = b.next {
				k := min(left, len(b.b)-b.off)
				wire = append(wire, b.b[b.off:b.off+k]...)
				left -= k
			}
			o.queue.pushFront(o.written(chain, n))
		}
		step(written)
		_ = o.appendControl(control)
		step(o.pending)
		want := append(bytes.Clone(whole), control...)
		if written == 0 {
			want = append(bytes.Clone(control), whole...)
		}
		if !bytes.Equal(wire, want) {
			t.Fatalf("the control frame is at %d, after a write of %d bytes", bytes.Index(wire, control), written)
		}
	}
}

// TestDropOldestDropsOwnedMessagesWhole fills an outbox with every kind of messages,
// part of which is written: those that are left are whole, in order, and counted.
func TestDropOldestDropsOwnedMessagesWhole(t *testing.T) {
	for written := range 3 * (smallMessage + framing.PacketHeaderSize) {
		if written%97 != 0 {
			continue
		}
		const sent = 60
		var r released
		owned := int32(0)
		o := newTestOutbox(t, 10*smallMessage, SlowConsumerDropOldest)
		var wire []byte
		for id := range uint32(sent) {
			var err error
			m := &framing.Message{ID: id, Payload: bytes.Repeat([]byte{byte(id)}, smallMessage)}
			switch id % 3 {
			case 0:
				err = o.AppendOwned(packets{}, m, r.release)
				owned++
			case 1:
				err = o.AppendFrame(FormPacket, packets{}, NewFrame(m))
			case 2:
				m.Payload = m.Payload[:10]
				err = o.Append(packets{}, m)
			}
			if err != nil {
				t.Fatal(err)
			}
			if id == 5 {
				chain, n := o.take(), written
				for b, left := chain, n; b != nil && left > 0; b = b.next {
					k := min(left, len(b.b)-b.off)
					wire = append(wire, b.b[b.off:b.off+k]...)
					left -= k
				}
				o.queue.pushFront(o.written(chain, n))
			}
			if o.pending > o.limits.OutboxLimit {
				t.Fatalf("%d bytes pending", o.pending)
			}
		}
		messages := o.messages
		wire = append(wire, drainOutbox(o, math.MaxInt)...)
		got := 0
		for last := -1; len(wire) > 0; got++ {
			var m framing.Message
			n, err := framing.Packet{}.Decode(wire, 0, 1<<20, &m)
			if err != nil || n == 0 || int(m.ID) <= last || !bytes.Equal(m.Payload, bytes.Repeat([]byte{byte(m.ID)}, len(m.Payload))) {
				t.Fatalf("%d written: message %d after %d: %d, %v", written, m.ID, last, n, err)
			}
			last = int(m.ID)
			wire = wire[n:]
		}
		if got == sent || got != messages || o.Pending() != 0 {
			t.Fatalf("%d written: %d of %d messages arrived, %d counted, %d bytes pending", written, got, sent, messages, o.Pending())
		}
		r.await(t, owned)
	}
}

// TestFrameOwnsItsBytes: those of a message that is no packet, too.
func TestFrameOwnsItsBytes(t *testing.T) {
	for _, typ := range []framing.Type{framing.OneWay, 9} {
		m := &framing.Message{Type: typ, Payload: []byte("payload"), Ext: []byte("ext")}
		f := NewFrame(m)
		clear(m.Payload)
		clear(m.Ext)
		if got := f.Message(); got.Type != typ || string(got.Payload) != "payload" || string(got.Ext) != "ext" {
			t.Errorf("type %d: the frame has %q and %q", typ, got.Payload, got.Ext)
		}
	}
}
