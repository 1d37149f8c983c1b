package engine

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxRatedAddrs bounds the addresses that LimitRate keeps. Above it those that may make a
// full burst again are forgotten, and if there are none, an unknown address is refused.
const maxRatedAddrs = 64 << 10

// LimitRate returns an Authorizer that admits at most perSecond sessions a second of one
// remote IP address, which is also the largest burst; for IPv6, of one /64 network. Others
// get a Refusal with status 429. It keeps up to 65,536 addresses, about 5 MB. Peers
// without an address, on a Unix socket, share one. Unlike Config.AcceptRate, a client that
// connects too often does not affect others. A perSecond below 1 admits no session.
func LimitRate(perSecond int) Authorizer {
	r := &addrRates{rate: float64(perSecond), buckets: make(map[netip.Prefix]*tokenBucket)}
	return func(_ context.Context, h *Handshake) error {
		if r.take(h.RemoteAddr.Addr(), time.Now()) {
			return nil
		}
		return &Refusal{Status: http.StatusTooManyRequests, Reason: "too many connections"}
	}
}

// addrRates has a token bucket for each network.
type addrRates struct {
	rate    float64 // sessions a second
	mu      sync.Mutex
	buckets map[netip.Prefix]*tokenBucket // guarded by mu
}

// take reports whether addr may make one more session.
func (r *addrRates) take(addr netip.Addr, now time.Time) bool {
	key := rateKey(addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[key]
	if b == nil {
		if len(r.buckets) >= maxRatedAddrs {
			r.forgetFull(now)
		}
		if len(r.buckets) >= maxRatedAddrs {
			return false
		}
		b = new(tokenBucket)
		r.buckets[key] = b
	}
	return b.take(now, 1, r.rate)
}

// forgetFull removes the buckets that are full again: new ones are full, too.
func (r *addrRates) forgetFull(now time.Time) {
	for key, b := range r.buckets {
		if b.refill(now, r.rate); b.level >= r.rate {
			delete(r.buckets, key)
		}
	}
}

// rateKey returns the network of addr that has one bucket: one customer usually has a /64.
func rateKey(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	size := addr.BitLen()
	if addr.Is6() {
		size = 64
	}
	key, _ := addr.Prefix(size)
	return key
}
