package engine

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/framing"
)

// attachedLink is a session's Link with what the engine keeps beside it.
type attachedLink struct {
	Link
	local  netip.AddrPort
	turn   *turn        // Inline: who may run a callback; nil in Workers dispatch
	tell   atomic.Int32 // calls of tellReading that are not answered yet
	gone   atomic.Bool  // Ended was called
	resume *time.Timer  // ends the throttle's pause; guarded by the throttle's mu
}

// A turn is the right to run a callback of a link's session in Inline dispatch,
// where the Transport's goroutines run OnMessage themselves and the loop runs
// OnOpen and OnClose. A nil turn is one that nobody has to wait for.
type turn struct {
	mu    sync.Mutex
	ready chan struct{} // closed when messages may come, or never will
	once  sync.Once     // of closing ready

	message atomic.Pointer[framing.Message] // that the callback has, or nil; written under mu
	replies *Replies                        // to it; or nil; under mu
}

func newTurn() *turn { return &turn{ready: make(chan struct{})} }

// take waits for the turn.
func (t *turn) take() *turn {
	if t != nil {
		t.mu.Lock()
	}
	return t
}

// pass ends what take began.
func (t *turn) pass() {
	if t != nil {
		t.mu.Unlock()
	}
}

// opened passes the turn on after OnOpen.
func (t *turn) opened() {
	if t != nil {
		t.open()
		t.mu.Unlock()
	}
}

// open lets those go on who wait to deliver the first message.
func (t *turn) open() { t.once.Do(func() { close(t.ready) }) }

// wakeDeliverers makes goroutines that wait to deliver a message of s look
// again whether they still should.
func (s *Session) wakeDeliverers() {
	s.core.wakeWaiters()
	if t := s.link.turn; t != nil && s.muted.Load() {
		t.open()
	}
}

// tellReading tells the link whether to read. Goroutines that call it at the
// same time leave it to the first one, which goes on until the link has heard
// the last word: so a pause and a resume can't pass each other.
func (s *Session) tellReading() {
	l := s.link
	if l.tell.Add(1) > 1 {
		return
	}
	for told := int32(1); told > 0; {
		calls := l.tell.Load()
		s.pauseLink(s.readBlocks.Load() > 0)
		told = l.tell.Add(-calls)
	}
}

// handlesDirectly reports whether the caller is a Transport's goroutine in a
// callback. It looks through the calling goroutine's stack, so that the way of a
// message costs nothing for it: for senders that are about to wait.
func handlesDirectly() bool {
	pcs := make([]uintptr, 64)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if strings.HasSuffix(f.Function, directFrame) {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// directFrame is the function that calls OnMessage on a Transport's goroutine.
const directFrame = "engine.(*Session).handleDirectly"
