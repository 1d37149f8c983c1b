package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []int
		want   int
	}{
		{[]int{7}, 7},
		{[]int{9, 1}, 1},
		{[]int{5, 1, 9}, 5},
		{[]int{4, 3, 2, 1}, 2},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %d, want %d", c.values, got, c.want)
		}
	}
}

func TestNewSample(t *testing.T) {
	before := usage{cpu: time.Second, calls: 100, callsKnown: true, switches: 7, switchesKnown: true}
	after := usage{cpu: 3 * time.Second, calls: 500, callsKnown: true, switches: 207, switchesKnown: true}
	got := newSample(5, 1000, before, after)
	if want := (sample{rate: 5, cpu: 2e6, calls: 0.4, switches: 0.2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	after.callsKnown, before.switchesKnown = false, false
	if got := newSample(5, 1000, before, after); got.calls >= 0 || got.switches >= 0 {
		t.Errorf("%+v has figures that weren't read", got)
	}
}

// TestRatios checks that ratios are taken within a round: this machine is ten
// times slower in its last one.
func TestRatios(t *testing.T) {
	own := []sample{{rate: 8e6}, {rate: 9e6}, {rate: 0.7e6}}
	base := []sample{{rate: 10e6}, {rate: 10e6}, {rate: 1e6}}
	if got := median(rate.ratios(own, base)); got != 0.8 {
		t.Errorf("%v, want 0.8", got)
	}
	if got := rate.ratios(own[:2], base); len(got) != 2 || got[0] != 0.8 {
		t.Errorf("%v of two rounds, want 0.8", got)
	}
}
