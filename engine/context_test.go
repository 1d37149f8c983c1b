package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestSessionContext: the context ends before OnClose, with its reason, also if it is asked
// for later, for sessions of sockets and of links.
func TestSessionContext(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		why := errors.New("why")
		closed := make(chan error, 2)
		j := newJournal(nil)
		j.Close = func(s *engine.Session, reason error) {
			select {
			case <-s.Done():
				closed <- context.Cause(s.Context())
			default:
				closed <- errors.New("the context has not ended")
			}
		}
		f := &fake{}
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d}, engine.Packets(), f)
		dial(t, addr)
		s := j.session(t)
		ctx := s.Context()
		if ctx.Err() != nil || s.Context() != ctx {
			t.Error(ctx.Err())
		}
		s.Abort(why)
		if err := <-closed; err != why {
			t.Error(err)
		}
		<-ctx.Done()
		l := f.open(t)
		l.session.CloseWith(why)
		<-l.ended
		if err := <-closed; err != why {
			t.Error(err)
		}
		if late := l.session.Context(); context.Cause(late) != why {
			t.Error(context.Cause(late))
		}
	})
}

// TestContextOfASessionThatNeverOpens ends with its connection.
func TestContextOfASessionThatNeverOpens(t *testing.T) {
	contexts := make(chan context.Context, 1)
	p := &scripted{accept: func(c *engine.Control) engine.Codec {
		contexts <- c.Session().Context()
		return &scriptedCodec{Codec: engine.Packets().Accept(c), needs: func() bool { return true }}
	}}
	_, addr := serve(t, engine.Config{Handler: echo}, p)
	c := dial(t, addr)
	ctx := <-contexts
	_ = c.Close()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, engine.ErrPeerClosed) {
		t.Error(err)
	}
}
