package client

import (
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
)

// maxCores bounds the event loops that all clients of a process share. A loop
// only completes requests and fills inboxes, so a few serve any number of
// clients, and each costs a thread and its buffers.
const maxCores = 4

// maxOutboxBytes is how much may wait to be written to one server before Send
// fails with engine.ErrSlowConsumer and the session ends.
//
// It is the soft mark too: a client must go on reading while its own output
// waits. If it stopped, as a server does above the mark, a client that writes
// much and a server that answers much would each wait for the other to read.
const maxOutboxBytes = 16 << 20

// hub is the one engine behind all clients of a process, from the first Dial
// until the last client is gone. Its callbacks run inline on the event loops:
// none of them ever waits.
type hub struct {
	engine *engine.Engine
	mux    *mux.Mux

	creating sync.Mutex // held while a session gets its Client
}

// shared is the process's hub, nil while there is no client.
var shared struct {
	mu   sync.Mutex // guards what follows
	hub  *hub
	uses int // clients, and Dials on the way to one
}

// join returns the process's hub for one more client. It must be left once.
func join() *hub {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.hub == nil {
		shared.hub = newHub()
	}
	shared.uses++
	return shared.hub
}

func newHub() *hub {
	h := &hub{}
	h.mux = mux.New(router{h}, mux.Options{})
	cfg := engine.Config{
		Handler:     h.mux,
		Dispatch:    engine.Inline,
		OutboxLimit: maxOutboxBytes,
	}
	// The default is the CPUs of the process, whatever other engines add to GOMAXPROCS.
	cfg.Cores = min(engine.New(cfg).Config().Cores, maxCores)
	h.engine = engine.New(cfg)
	return h
}

// leave undoes one join. last says that nobody uses the hub any more: the
// caller shall close its engine, and not on an event loop, because that waits
// for the loops.
func (h *hub) leave() (last bool) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.uses--
	if shared.uses > 0 {
		return false
	}
	shared.hub = nil
	return true
}

// clientKey is the key of a session's Client among its values.
type clientKey struct{}

// client returns the Client of s. The first of two makes it: the
// session's OnOpen, or the Dial that waits for the session. So there is an inbox
// before the first message, however early that comes.
func (h *hub) client(s *engine.Session) *Client {
	if c, ok := s.Value(clientKey{}).(*Client); ok {
		return c
	}
	h.creating.Lock()
	defer h.creating.Unlock()
	if c, ok := s.Value(clientKey{}).(*Client); ok {
		return c
	}
	c := newClient(h, s)
	s.SetValue(clientKey{}, c)
	return c
}

// router is the hub's handler behind its Mux: it finds the Client.
type router struct{ hub *hub }

func (r router) OnOpen(s *engine.Session) { r.hub.client(s) }

func (r router) OnMessage(s *engine.Session, m *framing.Message) { r.hub.client(s).inbox.push(m) }

func (r router) OnClose(s *engine.Session, reason error) { r.hub.client(s).end(reason) }
