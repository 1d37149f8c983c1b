package engine

import (
	"testing"
	"time"

	"github.com/millrace/millrace/framing"
)

// packetsOf encodes n messages with IDs from first on.
func packetsOf(first, n uint32, size int) (b []byte) {
	for i := range n {
		b, _ = framing.AppendPacket(b, &framing.Message{ID: first + i, Payload: make([]byte, size)})
	}
	return b
}

func ignore(*Session, *framing.Message) {}

// TestLargeMessageWaitsForRingSpace: a transport's goroutine has space for a large
// message, but finds the ring full. When the consumer has emptied the ring, the
// goroutine goes on.
func TestLargeMessageWaitsForRingSpace(t *testing.T) {
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, RingSize: minRingSize, MaxMessageSize: minRingSize}, Packets())
	f.run()
	filler, waiter := recordWriter{core: f.core}, recordWriter{core: f.core, wait: waitOpen}
	nobody := &Session{id: makeID(0, 9, 9)}
	for filler.control(nobody, recordOpen) == nil {
	}
	msg := &framing.Message{Payload: make([]byte, minRingSize)}
	done := make(chan error, 1)
	go func() {
		done <- waiter.large(f.conn.session, largeSize(msg), func() *largeMessage { return copyLarge(msg) })
	}()
	for f.core.waiters.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for f.core.consumer.batch() {
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it still waits for a ring that is empty")
		f.conn.session.Abort(nil) // the waiting goroutine ends
		f.core.wakeWaiters()
		<-done
	}
}
