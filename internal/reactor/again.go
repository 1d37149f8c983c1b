package reactor

// turns are the handlers that have more work, in two lists: the round that is being called,
// and those that were added since it began. The loop owns it. A goroutine that takes over
// the loop in the middle of a round continues the round.
type turns struct {
	round []Handler
	next  int // round[next:] are not yet called
	queue []Handler
}

// push adds h to the next round.
func (t *turns) push(h Handler) { t.queue = append(t.queue, h) }

// pending reports whether a handler is to be called.
func (t *turns) pending() bool { return t.next < len(t.round) || len(t.queue) > 0 }

// begin starts the next round, if the last one is over.
func (t *turns) begin() {
	if t.next == len(t.round) {
		t.round, t.queue, t.next = t.queue, t.round[:0], 0
	}
}

// take returns the next handler of the round, or nil.
func (t *turns) take() Handler {
	if t.next == len(t.round) {
		return nil
	}
	h := t.round[t.next]
	t.round[t.next] = nil
	t.next++
	return h
}
