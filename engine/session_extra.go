package engine

import "context"

// extra is the state that few sessions need.
type extra struct {
	throttle *throttle // nil without rates; set before the session is published

	// Guarded by the session's lock, Session.out.mu.
	ctx    context.Context // nil until Context is called
	cancel context.CancelCauseFunc

	authorization // owned by the loop
}

// setLimits sets the session's limits, before it is published.
func (s *Session) setLimits(limits *Limits) {
	s.out.Init(limits)
	if limits.messageRate > 0 || limits.byteRate > 0 {
		s.extra.Store(&extra{throttle: new(throttle)})
	}
}

// extras returns s's additional state, which it makes if necessary.
func (s *Session) extras() *extra {
	if x := s.extra.Load(); x != nil {
		return x
	}
	s.extra.CompareAndSwap(nil, new(extra))
	return s.extra.Load()
}

// rates returns the session's throttle; nil if it has no rates.
func (s *Session) rates() *throttle {
	if x := s.extra.Load(); x != nil {
		return x.throttle
	}
	return nil
}

// Context returns the context of the session, which is made by the first call. It is
// cancelled right before OnClose, with the close reason as its cause. Work that a callback
// starts for the session should use it.
func (s *Session) Context() context.Context {
	x := s.extras()
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancelCause(context.Background())
		if s.phase == phaseEnded {
			x.cancel(s.out.refused)
		}
	}
	return x.ctx
}

// Done returns the channel that is closed when Context is cancelled.
func (s *Session) Done() <-chan struct{} { return s.Context().Done() }

// cancelContext cancels the session's context, if there is one. The phase is phaseEnded.
func (s *Session) cancelContext(reason error) {
	x := s.extra.Load()
	if x == nil {
		return
	}
	s.out.mu.Lock()
	cancel := x.cancel
	s.out.mu.Unlock()
	if cancel != nil {
		cancel(reason)
	}
}
