package mux

import (
	"context"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Request sends payload as a Request on s and waits for its Response, which
// belongs to the caller and owns its bytes. payload is copied before Request
// returns.
//
// It blocks until the Response comes, ctx ends (ctx.Err() is returned, and the
// Response is dropped if it comes later), or the session ends, at once and with
// the session's close reason. A context without an end waits as long as the
// session lives. Where s's framing carries no ids, no Response can be told and
// only ctx or the session's end ends the call; over framing.MuxLine only the
// client side can ask.
//
// It may be called from any goroutine, and on accepted and dialed sessions
// alike, but never from a callback of an engine.Handler: the answer would have
// to come through the very worker, or loop, that waits for it.
//
// Errors: a *RemoteError when the peer says that it failed, ErrTooManyPending,
// ErrStreaming, ErrFragmented, those of Session.Send, and the above.
func (x *Mux) Request(ctx context.Context, s *engine.Session, payload []byte) (*framing.Message, error) {
	return x.RequestMessage(ctx, s, &framing.Message{Payload: payload})
}

// RequestMessage is Request with a whole message: its biz type, extension
// header, compression, flags and stream travel as they are. Its Type and ID are
// not looked at: it goes as a Request under an id of Session.NextID. m and its
// bytes are not changed, and not kept.
func (x *Mux) RequestMessage(ctx context.Context, s *engine.Session, m *framing.Message) (*framing.Message, error) {
	if x.invalid != nil {
		return nil, x.invalid
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := x.table(s)
	c := newCall(m)
	id, err := t.add(c, s.NextID, x.options.MaxPending)
	if err != nil {
		c.free()
		return nil, err
	}
	c.request.ID = id
	if err := s.SendMessage(&c.request); err != nil {
		t.drop(id, c)
		return nil, err
	}
	return t.await(ctx, id, c)
}

// await waits for the answer of c, which is in t under id, and frees c.
func (t *table) await(ctx context.Context, id uint32, c *call) (*framing.Message, error) {
	var a answer
	select {
	case a = <-c.done:
	case <-ctx.Done():
		if t.take(id) != nil {
			c.free()
			return nil, ctx.Err()
		}
		// Somebody took the call a moment ago and is about to answer it.
		a = <-c.done
	}
	c.free()
	if a.err != nil {
		return nil, a.err
	}
	if err := responseError(a.m); err != nil {
		return nil, err
	}
	return a.m, nil
}

// drop gives up on c, which is or was in t under id, and frees it.
func (t *table) drop(id uint32, c *call) {
	if t.take(id) == nil {
		<-c.done // taken by somebody who is about to answer it
	}
	c.free()
}
