package wsupgrade

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"sync"
)

// RequestOf returns the request of a WebSocket handshake: its path, query, header fields
// and cookies. of is the engine.Handshake of an Authorizer, or the engine.Session in
// OnOpen. After OnOpen it returns what Config.KeepURL and KeepHeaders selected. It is nil
// if nothing was kept, and for other protocols. The request has no Body, RemoteAddr
// and TLS; the Handshake or the Session has the last two. Do not change it. The first call
// parses it.
func RequestOf(of interface{ Value(key any) any }) *http.Request {
	if r, ok := of.Value(requestKey{}).(*lazyRequest); ok {
		return r.parsed()
	}
	r, _ := of.Value(keptKey{}).(*http.Request)
	return r
}

// requestKey is the key of a session's request until OnOpen has returned, and keptKey
// that of the part of it that is kept.
type requestKey struct{}
type keptKey struct{}

// lazyRequest is a request that is parsed when somebody asks for it.
type lazyRequest struct {
	head   []byte
	once   sync.Once
	result *http.Request
}

func (r *lazyRequest) parsed() *http.Request {
	r.once.Do(func() {
		var err error
		r.result, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(r.head)))
		if err != nil { // ws.Upgrader has accepted it, and is less strict
			r.result = &http.Request{Method: http.MethodGet, URL: new(url.URL), Header: http.Header{}}
		}
	})
	return r.result
}

// keepRequest attaches the part of the request that Config selects to the session.
func (p *Protocol) keepRequest(ctl control, request *lazyRequest) {
	if !p.config.KeepURL && len(p.config.KeepHeaders) == 0 {
		return
	}
	ctl.Session().SetValue(keptKey{}, p.keep(request.parsed()))
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
