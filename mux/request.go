package mux

import (
	"context"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Request sends payload as a Request on s and waits for its Response, which belongs
// to the caller and owns its bytes. payload must not change until Request returns.
//
// It blocks until the Response arrives, ctx ends, or the session ends. If ctx ends,
// it returns ctx.Err(), and a later Response is dropped. If the session ends, it
// returns the close reason at once. If s's framing carries no IDs, no Response can
// be matched, and only the end of ctx or of the session ends the call. Over
// framing.MuxLine only the client side can send requests.
//
// It may be called from any goroutine, on accepted and dialed sessions. Do not call
// it from a callback of an engine.Handler: the worker, or loop, that must receive
// the Response would wait for it.
//
// Errors: a *RemoteError if the peer reports a failure, framing.ErrMalformed if
// that report is invalid, ErrTooManyPending, ErrStreaming, ErrFragmented, those of
// Session.Send, and the above.
func (x *Mux) Request(ctx context.Context, s *engine.Session, payload []byte) (*framing.Message, error) {
	return x.RequestMessage(ctx, s, &framing.Message{Payload: payload})
}

// RequestMessage is Request with a whole message: its biz type, extension header,
// compression, flags and stream are sent unchanged. Its Type and ID are ignored: it
// is sent as a Request with an ID of Session.NextID. m and its bytes are not
// changed, and not kept after the call.
func (x *Mux) RequestMessage(ctx context.Context, s *engine.Session, m *framing.Message) (*framing.Message, error) {
	if x.invalid != nil {
		return nil, x.invalid
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := x.table(s)
	c := newCall(m)
	id, err := t.add(c, s.NextID, x.config.MaxPending)
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

// await waits for the answer to c, which is in t under id, and frees c.
func (t *table) await(ctx context.Context, id uint32, c *call) (*framing.Message, error) {
	var a answer
	select {
	case a = <-c.done:
	case <-ctx.Done():
		if t.take(id) != nil {
			c.free()
			return nil, ctx.Err()
		}
		// Another goroutine has just taken the call and is about to answer it.
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

// drop removes c, which is or was in t under id, and frees it.
func (t *table) drop(id uint32, c *call) {
	if t.take(id) == nil {
		<-c.done // another goroutine took it and is about to answer it
	}
	c.free()
}
