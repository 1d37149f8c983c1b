package wsupgrade

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
)

// RequestOf returns the request of a WebSocket handshake: its path, query, header fields
// and cookies. of is the engine.Handshake of an Authorizer, or the engine.Session in
// OnOpen. After OnOpen it returns what Config.KeepURL and KeepHeaders selected. It is nil
// if nothing was kept, and for other protocols. The request has no Body, RemoteAddr
// and TLS; the Handshake or the Session has the last two. Do not change it.
func RequestOf(of interface{ Value(key any) any }) *http.Request {
	if r, ok := of.Value(requestKey{}).(*http.Request); ok {
		return r
	}
	r, _ := of.Value(keptKey{}).(*http.Request)
	return r
}

// requestKey is the key of a session's request until OnOpen has returned, and keptKey
// that of the part of it that is kept.
type requestKey struct{}
type keptKey struct{}

// parseRequest parses a request that ws.Upgrader, which is less strict, has accepted.
func parseRequest(head []byte) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), requestBuffer))
	if err != nil {
		return nil, errMalformed
	}
	return r, nil
}

// requestBuffer is the size in bytes of the buffer for a request's lines.
const requestBuffer = 512

// keepRequest attaches the part of the request that Config selects to the session.
func (p *Protocol) keepRequest(ctl control, request *http.Request) {
	if !p.config.KeepURL && len(p.config.KeepHeaders) == 0 {
		return
	}
	ctl.Session().SetValue(keptKey{}, p.keep(request))
}

// keep returns the part of r that Config selects.
func (p *Protocol) keep(r *http.Request) *http.Request {
	cfg := &p.config
	kept := &http.Request{Method: r.Method, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		URL: new(url.URL), Header: http.Header{}}
	if cfg.KeepURL {
		kept.URL, kept.Host, kept.RequestURI = r.URL, r.Host, r.RequestURI
	}
	for _, name := range cfg.KeepHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			kept.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	return kept
}
