package bench

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	const url = "tcp://127.0.0.1:1"
	for _, c := range []struct {
		cfg   Config
		names string // empty for a valid one
	}{
		{Config{URL: url}, ""},
		{Config{URL: "ws://localhost:80/path?query"}, ""},
		{Config{URL: url, InFlight: 16, Size: 1 << 20}, ""},
		{Config{}, "URL"},
		{Config{URL: "quic://127.0.0.1:1", Streams: 64}, ""},
		{Config{URL: "unix:///run/socket"}, ""},
		{Config{URL: url, Sizes: []int{0, 100}, Rate: 1000, Poisson: true}, ""},
		{Config{URL: "udp://127.0.0.1:1"}, "URL"},
		{Config{URL: "unix://"}, "URL"},
		{Config{URL: "quic://127.0.0.1:1/path"}, "URL"},
		{Config{URL: url, Streams: 2}, "Streams"},
		{Config{URL: "quic://127.0.0.1:1", Streams: -1}, "Streams"},
		{Config{URL: url, Sizes: []int{-1}}, "Sizes"},
		{Config{URL: url, Sizes: []int{1 << 20}}, "Sizes"},
		{Config{URL: url, Rate: -1}, "Rate"},
		{Config{URL: url, Rate: math.NaN()}, "Rate"},
		{Config{URL: url, Poisson: true}, "Poisson"},
		{Config{URL: url, Separate: true}, ""},
		{Config{URL: url, Separate: true, Rate: 1}, "Separate"},
		{Config{URL: "quic://127.0.0.1:1", Separate: true}, "InFlight"},
		{Config{URL: "quic://127.0.0.1:1", Separate: true, InFlight: 1, Streams: 16}, ""},
		{Config{URL: url, RampUp: -1}, "RampUp"},
		{Config{URL: "tcp://127.0.0.1"}, "URL"},
		{Config{URL: "tcp://127.0.0.1:1/path"}, "URL"},
		{Config{URL: "tcp://%"}, "URL"},
		{Config{URL: url, Sessions: -1}, "Sessions"},
		{Config{URL: url, Sessions: maxSessions + 1}, "Sessions"},
		{Config{URL: url, InFlight: -1}, "InFlight"},
		{Config{URL: url, Size: -1}, "Size"},
		{Config{URL: url, InFlight: 16, Size: 1<<20 + 1}, "Size"},
		{Config{URL: url, Duration: -time.Second}, "Duration"},
		{Config{URL: url, Loops: -1}, "Loops"},
	} {
		err := c.cfg.Validate()
		if c.names == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.cfg, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v: %v doesn't name %s", c.cfg, err, c.names)
		}
	}
}

func TestDefaults(t *testing.T) {
	got := Config{}.withDefaults()
	if got.Sessions != DefaultSessions || got.InFlight != DefaultInFlight || got.Size != DefaultSize ||
		got.Duration != DefaultDuration || got.Warmup != DefaultWarmup || got.Loops < 1 {
		t.Errorf("%+v", got)
	}
	if got := (Config{Empty: true}).withDefaults(); got.Size != 0 {
		t.Errorf("Empty: Size %d", got.Size)
	}
	if got := (Config{Sessions: 1, Loops: 5}).withDefaults(); got.Loops != 1 {
		t.Errorf("%d loops for one session", got.Loops)
	}
}
