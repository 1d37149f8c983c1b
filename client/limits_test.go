package client

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// Clients with equal limits share an engine.
func TestLimits(t *testing.T) {
	srv := newServer(t, engine.HandlerFuncs{}, engine.Config{})
	small := Limits{MaxMessageSize: 1000}
	a, b := dialClient(t, srv.url("tcp"), WithLimits(small)), dialClient(t, srv.url("tcp"), WithLimits(small))
	c := dialClient(t, srv.url("tcp"))
	if a.hub != b.hub || a.hub == c.hub {
		t.Error("clients share a hub if their limits are equal, and only then")
	}
	if err := a.Send(make([]byte, 1001)); !errors.Is(err, engine.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if err := c.Send(make([]byte, 1001)); err != nil {
		t.Error(err)
	}
}

// Each field of Limits reaches the engine under the same name. The engine's tests show
// that it is read there.
func TestLimitFields(t *testing.T) {
	for f := range reflect.TypeFor[Limits]().Fields() {
		if f.Name == "MaxEventBytes" {
			continue // TestMaxEventBytes
		}
		var l Limits
		want := int64(1 << 20)
		if f.Type == reflect.TypeFor[time.Duration]() {
			want = int64(7 * time.Second)
		}
		reflect.ValueOf(&l).Elem().FieldByIndex(f.Index).SetInt(want)
		if err := l.validate(); err != nil {
			t.Error(err)
		}
		cfg := newHub(l).engine.Config()
		if got := reflect.ValueOf(cfg).FieldByName(f.Name).Int(); got != want {
			t.Errorf("%s is %d in the engine, want %d", f.Name, got, want)
		}
	}
	defaults := newHub(Limits{}).engine.Config()
	if defaults.OutboxLimit != DefaultOutboxLimit || defaults.MaxMessageSize != engine.DefaultMaxMessageSize {
		t.Errorf("by default %d bytes may wait, and a message have %d", defaults.OutboxLimit, defaults.MaxMessageSize)
	}
	if n := newHub(Limits{MaxMessageSize: 32 << 20}).engine.Config().OutboxLimit; n != 64<<20 {
		t.Errorf("%d bytes may wait where a message may have 32 MiB", n)
	}
	low := Limits{OutboxLimit: 1000}
	if err := low.validate(); err != nil {
		t.Error(err)
	}
}

// A client keeps as many bytes of events as MaxEventBytes says.
func TestMaxEventBytes(t *testing.T) {
	const limit, size = 64 << 10, 1024
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range 200 {
			s.Send(make([]byte, size))
		}
		s.Reply(m, nil)
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url, WithLimits(Limits{MaxEventBytes: limit}))
		if _, err := c.Request(testkit.Context(t), nil); err != nil {
			t.Fatal(err)
		}
		if kept, want := 200-int(c.DroppedEvents()), limit/(size+eventOverhead)+1; kept != want {
			t.Errorf("%d messages were kept, want %d", kept, want)
		}
	})
}
