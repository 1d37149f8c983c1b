package wsupgrade

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/millrace/millrace/engine"
)

// BearerToken returns an Authorizer that passes the bearer token of a WebSocket request to
// check, and refuses with status 401 a request without one, sessions of other protocols,
// and what check returns an error for. The token comes from the header "Authorization:
// Bearer" (RFC 6750 section 2.1) or, because browsers cannot set it for WebSockets, from
// the query parameter access_token (section 2.3). check may block, and may attach values
// to h; an engine.Refusal of its own is used unchanged.
func BearerToken(check func(ctx context.Context, h *engine.Handshake, token string) error) engine.Authorizer {
	return func(ctx context.Context, h *engine.Handshake) error {
		token := bearer(RequestOf(h))
		if token == "" {
			return &engine.Refusal{Status: http.StatusUnauthorized, Reason: "bearer token required"}
		}
		err := check(ctx, h, token)
		var own *engine.Refusal
		if err == nil || errors.As(err, &own) {
			return err
		}
		return &engine.Refusal{Status: http.StatusUnauthorized, Reason: "invalid bearer token", Err: err}
	}
}

// bearer returns the token of r, or "".
func bearer(r *http.Request) string {
	if r == nil {
		return ""
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return r.URL.Query().Get("access_token")
}
