package wsupgrade

import (
	"net/http"
	"net/url"
	"strings"
)

var errOrigin = &HandshakeError{Status: http.StatusForbidden, Reason: "origin not allowed"}

// admitsOrigin reports whether a page of that origin may connect to host: the request's
// own host, or one of Config.Origins. An empty origin is no page.
func (p *Protocol) admitsOrigin(origin, host string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	if u.Host != "" && strings.EqualFold(u.Host, host) {
		return true
	}
	for _, allowed := range p.config.Origins {
		if allowed == "*" || strings.EqualFold(allowed, origin) {
			return true
		}
		scheme, domain, ok := strings.Cut(allowed, "://*.")
		if ok && strings.EqualFold(scheme, u.Scheme) && len(u.Host) > len(domain)+1 &&
			strings.EqualFold(u.Host[len(u.Host)-len(domain)-1:], "."+domain) {
			return true
		}
	}
	return false
}
