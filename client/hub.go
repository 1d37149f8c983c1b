package client

import (
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
)

// maxCores bounds the event loops that all clients of a process share. A loop only
// completes requests and fills inboxes, so a few loops serve any number of clients.
// Each loop costs a thread and its buffers.
const maxCores = 4

// DefaultMaxEventBytes is how many bytes of received messages may wait for Events,
// Receive or the handler. Reading resumes at half of that.
const DefaultMaxEventBytes = 1 << 20

// maxOutboxBytes is how many bytes may wait to be written to one server before Send
// fails with engine.ErrSlowConsumer and the session ends.
//
// A client continues to read while its own output waits;
// engine.Config.OutboxSoftMark applies to accepted sessions only. If the client
// stopped reading, a client that writes much and a server that answers much could
// wait for each other.
const maxOutboxBytes = 16 << 20

// hub is the engine that all clients of a process share, from the first Dial until
// the last client is closed. Its callbacks run inline on the event loops and never
// block.
type hub struct {
	engine *engine.Engine
	mux    *mux.Mux

	creating sync.Mutex // held while a session gets its Client
}

// shared is the process's hub, nil while there is no client.
var shared struct {
	mu   sync.Mutex // guards the fields below
	hub  *hub
	uses int // clients, and Dials in progress
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
	h.mux = mux.New(router{h}, mux.Config{})
	cfg := engine.Config{
		Handler:     h.mux,
		Dispatch:    engine.Inline,
		OutboxLimit: maxOutboxBytes,
	}
	// The default is the CPUs of the process, without the additions of other
	// engines to GOMAXPROCS.
	cfg.Cores = min(engine.New(cfg).Config().Cores, maxCores)
	h.engine = engine.New(cfg)
	return h
}

// leave undoes one join. If last is true, the hub has no more users, and the caller
// must close its engine. It must not do that on an event loop, because closing
// waits for the loops.
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

// client returns the Client of s. The session's OnOpen or the Dial that waits for
// the session makes it, whichever comes first. So the inbox exists before the first
// message.
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

// router is the handler that the hub's Mux forwards to: it passes each event to its
// Client.
type router struct{ hub *hub }

func (r router) OnOpen(s *engine.Session) { r.hub.client(s) }

func (r router) OnMessage(s *engine.Session, m *framing.Message) { r.hub.client(s).inbox.push(m) }

func (r router) OnClose(s *engine.Session, reason error) { r.hub.client(s).end(reason) }
