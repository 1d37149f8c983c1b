package engine

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestLimitRate: each address has its own burst and rate, and the table is bounded.
func TestLimitRate(t *testing.T) {
	limit := LimitRate(2)
	ask := func(addr string) error {
		return limit(context.Background(), &Handshake{RemoteAddr: netip.AddrPortFrom(netip.MustParseAddr(addr), 1)})
	}
	var refused *Refusal
	for _, addr := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		if err := errors.Join(ask(addr), ask(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if err := ask(addr); !errors.As(err, &refused) || refused.Status != 429 {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := ask("2001:db8::2"); err == nil {
		t.Error("another address of the same /64 is admitted")
	}
	if err := ask("::ffff:192.0.2.1"); err == nil {
		t.Error("the same address is admitted in another form")
	}
	if err := limit(context.Background(), &Handshake{}); err != nil {
		t.Error(err)
	}
}

func TestLimitRateIsBounded(t *testing.T) {
	r := &addrRates{rate: 1, buckets: make(map[netip.Prefix]*tokenBucket)}
	now := time.Now()
	addr := netip.MustParseAddr("10.0.0.0")
	for range maxRatedAddrs {
		if !r.take(addr, now) {
			t.Fatal("refused")
		}
		addr = addr.Next()
	}
	if r.take(addr, now) || len(r.buckets) != maxRatedAddrs {
		t.Error("the table grows")
	}
	if !r.take(addr, now.Add(2*time.Second)) || len(r.buckets) != 1 {
		t.Errorf("%d buckets are left", len(r.buckets))
	}
}
