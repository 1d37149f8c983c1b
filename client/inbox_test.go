package client

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/millrace/millrace/framing"
)

// countingReader is a reader that counts.
type countingReader struct{ pauses, resumes int }

func (r *countingReader) Pause()  { r.pauses++ }
func (r *countingReader) Resume() { r.resumes++ }

func TestInboxOrderAndEnd(t *testing.T) {
	b := newInbox(&countingReader{}, DefaultMaxEventBytes)
	reason := errors.New("the end")
	buf := []byte("a")
	for _, c := range []byte("abc") {
		buf[0] = c // the inbox must have copied
		b.push(&framing.Message{Payload: buf, Ext: buf, BizType: c})
	}
	b.end(reason)
	for _, c := range "abc" {
		ev, ok := b.next()
		if !ok || ev.Kind != EventMessage || string(ev.Message.Payload) != string(c) ||
			string(ev.Message.Ext) != string(c) || ev.Message.BizType != uint8(c) {
			t.Fatalf("got %+v %v, want message %c", ev, ok, c)
		}
	}
	if ev, ok := b.next(); !ok || ev.Kind != EventClosed || ev.Err != reason || ev.Message != nil {
		t.Errorf("got %+v %v, want EventClosed", ev, ok)
	}
	if ev, ok := b.next(); ok {
		t.Errorf("got %+v after EventClosed", ev)
	}
}

func TestInboxPausesAtTheBound(t *testing.T) {
	r := &countingReader{}
	b := newInbox(r, DefaultMaxEventBytes)
	m := &framing.Message{Payload: make([]byte, 1024-eventOverhead)}
	const full = DefaultMaxEventBytes / 1024
	for range full - 1 {
		b.push(m)
	}
	if r.pauses != 0 {
		t.Fatal("paused below the bound")
	}
	for range 10 { // messages already received still fit
		b.push(m)
	}
	if r.pauses != 1 {
		t.Fatalf("%d pauses at the bound, want 1", r.pauses)
	}
	for range full + 9 {
		if b.bytes <= DefaultMaxEventBytes/2 {
			break
		}
		if r.resumes != 0 {
			t.Fatalf("resumed with %d bytes waiting", b.bytes)
		}
		b.next()
	}
	if r.resumes != 1 {
		t.Fatalf("%d resumes at half of the bound, want 1", r.resumes)
	}
	for range full / 2 {
		b.next()
	}
	if b.bytes != 0 || b.head != nil || b.tail != nil || r.resumes != 1 {
		t.Errorf("an emptied inbox has %d bytes and was resumed %d times", b.bytes, r.resumes)
	}
}

// Messages without a payload are bounded as well.
func TestInboxCountsEmptyMessages(t *testing.T) {
	r := &countingReader{}
	b := newInbox(r, DefaultMaxEventBytes)
	for range DefaultMaxEventBytes / eventOverhead {
		b.push(&framing.Message{})
	}
	if r.pauses != 1 {
		t.Errorf("%d pauses, want 1", r.pauses)
	}
}

// Every event goes to exactly one of several readers, and all of them end.
func TestInboxSeveralReaders(t *testing.T) {
	b := newInbox(&countingReader{}, DefaultMaxEventBytes)
	const readers, messages = 4, 1000
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, closed := map[uint32]int{}, 0
	for range readers {
		wg.Go(func() {
			for {
				ev, ok := b.next()
				if !ok {
					return
				}
				mu.Lock()
				if ev.Kind == EventClosed {
					closed++
				} else {
					seen[binary.BigEndian.Uint32(ev.Message.Payload)]++
				}
				mu.Unlock()
			}
		})
	}
	var payload [4]byte
	for i := range uint32(messages) {
		binary.BigEndian.PutUint32(payload[:], i)
		b.push(&framing.Message{Payload: payload[:]})
	}
	b.end(errors.New("the end"))
	wg.Wait()
	for i := range uint32(messages) {
		if seen[i] != 1 {
			t.Fatalf("message %d was seen %d times", i, seen[i])
		}
	}
	if closed != 1 {
		t.Errorf("EventClosed was seen %d times", closed)
	}
}
