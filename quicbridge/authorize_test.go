package quicbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestAuthorize decides about QUIC sessions by their TLS state. A refused one is closed
// with CodeRefused.
func TestAuthorize(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		verdicts, opened := make(chan error, 1), make(chan *tls.ConnectionState, 1)
		srv := serve(t, engine.Config{Dispatch: d,
			Authorize: func(_ context.Context, h *engine.Handshake) error {
				if h.TLS == nil || h.TLS.NegotiatedProtocol != ALPN || h.Transport != "quic" || !h.RemoteAddr.IsValid() {
					t.Errorf("%+v", h)
				}
				return <-verdicts
			},
			Handler: engine.HandlerFuncs{Open: func(s *engine.Session) { opened <- s.TLS() }},
		}, Config{})
		verdicts <- errors.New("no")
		expectCode(t, raw(t, srv.addr, nil, ALPN), CodeRefused)
		if n := srv.Stats().Refused["unauthorized"]; n != 1 {
			t.Errorf("%d are counted", n)
		}
		verdicts <- nil
		raw(t, srv.addr, nil, ALPN)
		if state := <-opened; state == nil || state.Version != tls.VersionTLS13 {
			t.Errorf("%+v", state)
		}
	})
}

// TestAuthorizeEndsWithItsConnection: the context of an Authorizer ends with the QUIC
// connection.
func TestAuthorizeEndsWithItsConnection(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	srv := serve(t, engine.Config{Handler: echo, Authorize: func(ctx context.Context, _ *engine.Handshake) error {
		close(entered)
		<-ctx.Done()
		close(ended)
		return nil
	}}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	<-entered
	_ = q.CloseWithError(0, "")
	<-ended
}
