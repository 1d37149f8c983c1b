package client

import (
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
)

// hub is the engine that all clients with the same limits share, from the first Dial
// until the last client is closed. Its callbacks run inline on the event loop and
// never block. One event loop is enough: it only completes requests and fills
// inboxes.
type hub struct {
	limits        Limits
	engine        *engine.Engine
	mux           *mux.Mux
	maxEventBytes int
	uses          int // clients, and Dials in progress; guarded by shared.mu

	creating sync.Mutex // held while a session gets its Client
}

// shared holds the process's hubs that have users.
var shared = struct {
	mu   sync.Mutex
	hubs map[Limits]*hub
}{hubs: map[Limits]*hub{}}

// join returns the process's hub of l for one more client. It must be left once.
func join(l Limits) *hub {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	h := shared.hubs[l]
	if h == nil {
		h = newHub(l)
		shared.hubs[l] = h
	}
	h.uses++
	return h
}

func newHub(l Limits) *hub {
	h := &hub{limits: l, maxEventBytes: l.MaxEventBytes}
	if h.maxEventBytes == 0 {
		h.maxEventBytes = DefaultMaxEventBytes
	}
	h.mux = mux.New(router{h}, mux.Config{})
	h.engine = engine.New(l.config(h.mux))
	return h
}

// leave undoes one join. If last is true, the hub has no more users, and the caller
// must close its engine. It must not do that on an event loop, because closing
// waits for the loops.
func (h *hub) leave() (last bool) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	h.uses--
	if h.uses > 0 {
		return false
	}
	delete(shared.hubs, h.limits)
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
