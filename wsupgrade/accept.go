package wsupgrade

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gobwas/ws"
)

var errNoSuchPath = &HandshakeError{Status: http.StatusNotFound, Reason: "no WebSocket is served at this path"}

// accept does the server's part of the opening handshake (RFC 6455 section 4.2)
// when the whole request has arrived. It consumes no byte after the request.
func (c *codec) accept(ctl control, b []byte, seen int) (n int, err error) {
	n, err = requestEnd(b, seen)
	if n == 0 || err != nil {
		return 0, err
	}
	x := exchanges.Get().(*exchange)
	defer x.release()
	r, err := x.upgrade(c.proto, b[:n])
	if err != nil {
		return 0, err
	}
	request, err := parseRequest(b[:n])
	if err != nil {
		return 0, err
	}
	ctl.SetValue(requestKey{}, request)
	if !ctl.Authorize() {
		return 0, nil // it comes again
	}
	if err := ctl.SendControl(x.response); err != nil {
		return 0, err
	}
	c.proto.keepRequest(ctl, request)
	c.enter(r)
	ctl.Establish()
	return n, nil
}

// exchange is the connection that is passed to ws.Upgrader: it reads from a
// complete request and writes to a buffer, so it never blocks.
type exchange struct {
	request  bytes.Reader
	response []byte
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (x *exchange) Read(p []byte) (int, error) { return x.request.Read(p) }

func (x *exchange) Write(p []byte) (int, error) {
	x.response = append(x.response, p...)
	return len(p), nil
}

func (x *exchange) release() {
	x.request.Reset(nil)
	x.response = x.response[:0]
	exchanges.Put(x)
}

// upgrade writes the response to the request to x, and returns the requested route,
// or a *HandshakeError.
func (x *exchange) upgrade(p *Protocol, request []byte) (r route, err error) {
	origin, host, err := checkHead(request)
	if err != nil {
		return route{}, err
	}
	x.request.Reset(request)
	_, err = ws.Upgrader{
		OnRequest: func(uri []byte) (err error) {
			r, err = p.lookUp(string(uri))
			return err
		},
		OnHeader: refuseBody,
	}.Upgrade(x)
	switch {
	case err != nil:
		return route{}, refusalOf(err)
	case !p.admitsOrigin(origin, host):
		return route{}, errOrigin
	}
	return r, nil
}

// lookUp returns the route of a request line's target, or a *HandshakeError.
func (p *Protocol) lookUp(target string) (route, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return route{}, &HandshakeError{Status: http.StatusBadRequest, Reason: "malformed request target"}
	}
	r, ok := p.find(u.Path)
	if !ok {
		return route{}, errNoSuchPath
	}
	return r, nil
}

// refuseBody refuses requests that announce a body: its bytes would be read as
// frames.
func refuseBody(name, value []byte) error {
	switch {
	case strings.EqualFold(string(name), "Transfer-Encoding"),
		strings.EqualFold(string(name), "Content-Length") && string(value) != "0":
		return errRequestedBody
	}
	return nil
}

// refusalOf converts an error of ws.Upgrader to a *HandshakeError.
func refusalOf(err error) error {
	var ours *HandshakeError
	var theirs *ws.ConnectionRejectedError
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &theirs):
		reason := strings.TrimPrefix(theirs.Error(), "handshake error: ")
		return &HandshakeError{Status: theirs.StatusCode(), Reason: reason}
	}
	return &HandshakeError{Status: http.StatusBadRequest, Reason: err.Error()}
}
