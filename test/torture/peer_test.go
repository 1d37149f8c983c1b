package torture_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// ending is the way in which an uninterrupted conversation ends.
type ending uint8

const (
	polite ending = iota // the peer closes when it has every answer
	rush                 // the peer closes immediately after its last message
	asked                // the peer asks the server to close
)

// window is how many bytes of an honest peer may be unanswered. It is more than
// the server's OutboxSoftMark and less than its OutboxLimit.
const window = 128 << 10

// giveUp is how long a peer on a lossy link waits; the server's own timeouts
// end most of its sessions before.
const giveUp = 5 * time.Second

// peer is one honest client and its one session.
type peer struct {
	run    *run
	r      *rand.Rand
	scheme string
	number uint64
	ending ending
	lossy  bool // it may be interrupted
	shaken bool // its last datagram may be lost
	hears  bool // it may be interrupted, but it always notices the end by itself
	size   int  // messages on each lane of askers, ten times as many one-way

	c        *client.Client
	account  *account
	sent     [lanes]atomic.Uint32
	answered [lanes]sequence
	credit   *credit
	heard    chan struct{} // closed when the reader has read the end
}

// newPeer makes a peer that has not connected.
func newPeer(r *run, choose *rand.Rand, scheme string) *peer {
	p := &peer{run: r, r: choose, scheme: scheme, number: r.numbers.Add(1), size: 5 + choose.IntN(30),
		account: new(account), credit: newCredit(window), heard: make(chan struct{})}
	r.server.accounts.Store(p.number, p.account)
	return p
}

// dial connects by way of addr.
func (p *peer) dial(addr string) error {
	url := p.scheme + "://" + addr
	if p.scheme == "ws" || p.scheme == "wss" {
		url += "/ws"
	}
	limit := testkit.Patience
	if p.lossy {
		limit = giveUp
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	p.c, err = client.Dial(ctx, url, client.WithTLS(p.run.server.roots))
	return err
}

// converse sends all messages, ends the session, and checks both sides of it. It calls
// stop if the peer on a lossy link gives up.
func (p *peer) converse(stop func()) {
	go p.read()
	talked := make(chan struct{})
	go func() {
		defer close(talked)
		p.talk()
	}()
	p.watch(talked)
	if p.lossy && !p.hears && p.r.IntN(2) == 0 {
		stop()
	}
	if p.ending != asked || p.lossy {
		p.c.Close()
	}
	p.mustCome(p.c.Done(), "the client's end")
	p.mustCome(p.heard, "the Closed event")
	p.mustCome(talked, "the end of its senders and requests")
	stop()
	if !testkit.Poll(testkit.Patience, func() bool { return p.account.closed.Load() >= p.account.opened.Load() }) {
		p.run.failf("%s: OnClose didn't come", p.scheme)
	}
	p.check()
	if p.account.opened.Load() > 0 {
		p.run.server.accounts.Delete(p.number)
	}
}

func (p *peer) mustCome(ch <-chan struct{}, what string) {
	select {
	case <-ch:
	case <-time.After(testkit.Patience):
		p.run.failf("%s: in vain waited for %s (lossy %v, ending %d)", p.scheme, what, p.lossy, p.ending)
	}
}

// watch waits until all messages were sent and answered, the session has ended, or
// no end can come any more.
func (p *peer) watch(talked <-chan struct{}) {
	limit := testkit.Patience
	if p.lossy && !p.hears {
		limit = giveUp
	}
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; {
		if said && (p.ending == rush || p.ending == polite && p.complete()) {
			return
		}
		select {
		case <-talked:
			talked, said = nil, true
		case <-p.c.Done():
			return
		case <-tick.C:
			if p.account.closed.Load() > 0 && p.lossy && !p.hears {
				return // the server has given up, and the client may never notice it
			}
		case <-deadline:
			if !p.lossy {
				p.run.failf("%s: stuck: sent %v, received %v, answered %v", p.scheme, counts(&p.sent),
					marks(&p.account.received), marks(&p.answered))
			}
			return
		}
	}
}

// complete reports whether every message was answered.
func (p *peer) complete() bool { return marks(&p.answered) == counts(&p.sent) }

func counts(c *[lanes]atomic.Uint32) (n [lanes]uint32) {
	for i := range c {
		n[i] = c[i].Load()
	}
	return n
}

func marks(q *[lanes]sequence) (n [lanes]uint32) {
	for i := range q {
		n[i] = q[i].next.Load()
	}
	return n
}

// talk sends on all lanes until all messages are sent or the session ends.
func (p *peer) talk() {
	var askers sync.WaitGroup
	for lane := uint8(1); lane < lanes; lane++ {
		seed := p.r.Uint64()
		askers.Go(func() { p.ask(lane, rand.New(rand.NewPCG(seed, 2))) })
	}
	r := rand.New(rand.NewPCG(p.r.Uint64(), 3))
	alive := true
	for n := 10 * p.size; n > 0 && alive; n-- {
		alive = p.send(r, opEcho)
		if r.IntN(100) == 0 {
			time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond) // so that reads find single messages too
		}
	}
	askers.Wait()
	if p.ending == asked && alive {
		p.send(r, opClose)
	}
}

// randomSize is usually small, and sometimes large.
func randomSize(r *rand.Rand, most int) int {
	switch n := r.IntN(20); {
	case n < 14:
		return headSize + r.IntN(200)
	case n < 19:
		return headSize + r.IntN(4<<10)
	default:
		return headSize + r.IntN(most-headSize)
	}
}

// send sends one one-way message. It returns false if the session has ended.
func (p *peer) send(r *rand.Rand, op uint8) bool {
	size := randomSize(r, maxPayload)
	if !p.credit.take(size) {
		return false
	}
	seq := p.sent[laneOneWay].Load()
	m := framing.Message{ID: seq + 1, Payload: appendPayload(nil, p.number, laneOneWay, op, seq, size)}
	if err := p.c.SendMessage(&m); err != nil {
		if !p.lossy {
			p.run.failf("%s: send: %v", p.scheme, err)
		}
		return false
	}
	p.sent[laneOneWay].Add(1)
	return true
}

// ask makes requests one after the other. They have no deadline: they must end
// with their session (promise P10).
func (p *peer) ask(lane uint8, r *rand.Rand) {
	for seq := range uint32(p.size) {
		payload := appendPayload(nil, p.number, lane, opEcho, seq, randomSize(r, 16<<10))
		p.sent[lane].Add(1)
		answer, err := p.c.Request(context.Background(), payload)
		if err != nil {
			if !p.lossy {
				p.run.failf("%s: request: %v", p.scheme, err)
			}
			if reasonName(err) == "" {
				p.run.failf("%s: a request ended without a known reason: %v", p.scheme, err)
			}
			return
		}
		p.count(answer, lane, len(payload))
	}
}

// read receives the server's messages until the session ends.
func (p *peer) read() {
	defer close(p.heard)
	defer p.credit.shut()
	for ev := range p.c.Events() {
		switch ev.Kind {
		case client.EventClosed:
			if reasonName(ev.Err) == "" {
				p.run.failf("%s: Closed without a known reason: %v", p.scheme, ev.Err)
			}
		case client.EventMessage:
			h := p.count(ev.Message.Payload, laneOneWay, len(ev.Message.Payload))
			if ev.Message.ID != h.seq+1 || ev.Message.Type != framing.OneWay {
				p.run.failf("%s: message %d came as number %d, type %d", p.scheme, h.seq, ev.Message.ID, ev.Message.Type)
			}
			p.credit.give(len(ev.Message.Payload))
		}
	}
}

// count checks one answer.
func (p *peer) count(payload []byte, lane uint8, size int) head {
	h, err := parse(payload)
	switch {
	case err != nil:
		p.run.failf("%s: the client got %v", p.scheme, err)
	case h.sender != p.number || h.lane != lane || len(payload) != size:
		p.run.failf("%s: an answer of lane %d to peer %d came to lane %d of peer %d", p.scheme, h.lane, h.sender, lane, p.number)
	case h.seq != h.server:
		p.run.failf("%s: message %d was the server's number %d", p.scheme, h.seq, h.server)
	default:
		lost, again := p.answered[lane].take(h.seq)
		p.run.judge(p.scheme+": the client", h, lost, again)
		p.run.carried.Add(1)
	}
	return h
}

// check compares both sides of a session that has ended.
func (p *peer) check() {
	sent, received, answered := counts(&p.sent), marks(&p.account.received), marks(&p.answered)
	for i := range sent {
		if received[i] > sent[i] || answered[i] > received[i] {
			p.run.failf("%s lane %d: sent %d, received %d, answered %d", p.scheme, i, sent[i], received[i], answered[i])
		}
	}
	if p.lossy {
		return
	}
	if received != sent || p.ending != rush && answered != sent {
		for i := range sent {
			p.run.lost.Add(int64(sent[i] - min(sent[i], received[i])))
			if p.ending != rush {
				p.run.lost.Add(int64(received[i] - min(received[i], answered[i])))
			}
		}
		p.run.failf("%s: lost: sent %v, received %v, answered %v, ending %d, client %v, server %v", p.scheme, sent, received, answered,
			p.ending, p.c.Err(), p.serverReason())
	}
	here, there := engine.ErrClosed, engine.ErrPeerClosed
	if p.ending == asked {
		here, there = there, here
	}
	// If the CONNECTION_CLOSE of a QUIC peer was lost, the server sees only silence.
	silent := p.shaken && (errors.Is(p.serverReason(), engine.ErrIdleTimeout) || errors.Is(p.c.Err(), engine.ErrIdleTimeout))
	if silent {
		return
	}
	if !errors.Is(p.c.Err(), here) || !errors.Is(p.serverReason(), there) {
		p.run.failf("%s: ending %d: the client's reason is %v, the server's %v", p.scheme, p.ending, p.c.Err(), p.serverReason())
	}
}

// serverReason is the reason that the server's OnClose got.
func (p *peer) serverReason() error {
	if r := p.account.reason.Load(); r != nil {
		return *r
	}
	return nil
}

// credit bounds the bytes in flight.
type credit struct {
	mu   sync.Mutex // guards the fields below
	cond *sync.Cond
	left int
	over bool
}

func newCredit(n int) *credit {
	c := &credit{left: n}
	c.cond = sync.NewCond(&c.mu)
	return c
}

// take waits for n bytes of credit. It returns false if there will be none.
func (c *credit) take(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left < n && !c.over {
		c.cond.Wait()
	}
	c.left -= n
	return !c.over
}

func (c *credit) give(n int) {
	c.mu.Lock()
	c.left += n
	c.cond.Broadcast()
	c.mu.Unlock()
}

func (c *credit) shut() {
	c.mu.Lock()
	c.over = true
	c.cond.Broadcast()
	c.mu.Unlock()
}
