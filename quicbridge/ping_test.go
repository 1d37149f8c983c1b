package quicbridge

import (
	"errors"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/engine"
)

// TestPings: PING frames keep a silent peer, also with a shorter idle timeout of its own; a
// peer that vanishes ends before IdleTimeout.
func TestPings(t *testing.T) {
	closed := make(chan error, 1)
	srv := serve(t, engine.Config{PingInterval: 100 * time.Millisecond, PongTimeout: 2 * time.Second,
		Handler: engine.HandlerFuncs{Close: func(_ *engine.Session, reason error) { closed <- reason }},
	}, Config{IdleTimeout: time.Hour})
	q, mute := dialMuting(t, srv.addr, &quic.Config{MaxIdleTimeout: time.Second})
	select {
	case <-q.Context().Done():
		t.Fatal("a silent peer was ended")
	case <-time.After(2500 * time.Millisecond): // more than twice its idle timeout
	}
	mute.now.Store(true)
	if err := <-closed; !errors.Is(err, engine.ErrIdleTimeout) {
		t.Error(err)
	}
	full := Config{}.withDefaults()
	for _, c := range []struct{ ping, pong, idle, keep, want time.Duration }{
		{0, 0, 0, 0, DefaultIdleTimeout},
		{5 * time.Second, 10 * time.Second, 0, 5 * time.Second, 15 * time.Second},
		{20 * time.Second, 40 * time.Second, 0, 15 * time.Second, 30 * time.Second},
		{5 * time.Second, 10 * time.Second, 8 * time.Second, 4 * time.Second, 8 * time.Second},
	} {
		got := full.quicConfig(&engine.Limits{PingInterval: c.ping, PongTimeout: c.pong, IdleTimeout: c.idle})
		if got.KeepAlivePeriod != c.keep || got.MaxIdleTimeout != c.want {
			t.Errorf("%+v: keep-alive %v, idle timeout %v", c, got.KeepAlivePeriod, got.MaxIdleTimeout)
		}
	}
}
