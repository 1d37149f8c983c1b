package engine_test

import (
	"crypto/rand"
	"crypto/tls"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// slowRandom stops the first to read it when it is armed.
type slowRandom struct {
	armed    atomic.Bool
	in, gate chan struct{}
}

func (r *slowRandom) Read(b []byte) (int, error) {
	if r.armed.CompareAndSwap(true, false) {
		close(r.in)
		<-r.gate
	}
	return rand.Read(b)
}

// TestReplyComesBeforeALaterSend replies, and then has another goroutine send,
// while a third one is in the middle of encrypting for the same session. When that
// one goes on it writes all that it finds: the reply must be in front, not held
// back beside the outbox.
func TestReplyComesBeforeALaterSend(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for !replyComesBeforeALaterSend(t, d) {
			t.Log("the core was still writing for the session: again")
		}
	})
}

// replyComesBeforeALaterSend returns false if the core encrypts for the third goroutine.
func replyComesBeforeALaterSend(t *testing.T, d engine.Dispatch) bool {
	random := &slowRandom{in: make(chan struct{}), gate: make(chan struct{})}
	arrived := make(chan struct{})
	j := newJournal(func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, []byte{byte(m.ID)})
		if m.ID == 1 {
			_ = sendElsewhere(s, &framing.Message{Payload: []byte("later")})
			close(random.gate)
			<-arrived // in the middle of the batch
		}
	})
	secure := engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, Config: &tls.Config{
		Rand: random, // that records of this suite take their IV from
		//nolint:gosec // as said
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}})
	_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1}, secure, engine.Packets())
	c := dialTLS(t, addr, clientTLS(tls.VersionTLS12))
	s := j.session(t)
	random.armed.Store(true)
	sent := make(chan struct{})
	go func() { defer close(sent); _ = s.Send([]byte("first")) }()
	<-random.in
	select {
	case <-sent:
		close(random.gate)
		return false
	case <-time.After(100 * time.Millisecond): // it encrypts, and waits for the gate
	}
	_, _ = c.Write(slices.Concat(packet(&framing.Message{ID: 1}), packet(&framing.Message{ID: 2})))
	var got []string
	for len(got) < 4 {
		head := make([]byte, framing.PacketHeaderSize)
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatal(err)
		}
		size := framing.Packet{}.Need(head)
		payload := make([]byte, size-len(head))
		if _, err := io.ReadFull(c, payload); err != nil {
			t.Fatal(err)
		}
		if got = append(got, string(payload)); string(payload) == "later" {
			close(arrived)
		}
	}
	if want := []string{"first", "\x01", "later", "\x02"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	return true
}
