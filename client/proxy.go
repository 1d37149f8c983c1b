package client

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/millrace/millrace/engine"
)

// ProxyError is the error for a proxy that refused to connect. It is also
// engine.ErrRefused.
type ProxyError struct{ Status int } // the HTTP status code

func (e *ProxyError) Error() string {
	return fmt.Sprintf("client: proxy refused to connect: HTTP %d %s", e.Status, http.StatusText(e.Status))
}

// Unwrap returns engine.ErrRefused.
func (e *ProxyError) Unwrap() error { return engine.ErrRefused }

// maxProxyHead bounds a proxy's response in bytes.
const maxProxyHead = 16 << 10

// proxied is a protocol through a tunnel. The engine connects to the proxy.
type proxied struct {
	engine.StreamProtocol
	target string // "host:port" of the server
	auth   string // of the header Proxy-Authorization; "" for none
}

// parseProxy returns the address of the proxy at rawURL, and the protocol that
// reaches target through it by p. Its errors don't contain rawURL, which may contain
// a password.
func parseProxy(rawURL, target string, p engine.StreamProtocol) (addr string, through engine.Protocol, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" ||
		u.Port() != "" && !isPort(u.Port()) {
		return "", nil, fmt.Errorf("%w: WithProxy takes http://host:port or http://user:password@host:port", ErrBadOption)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	tunnel := &proxied{StreamProtocol: p, target: target}
	if u.User != nil {
		password, _ := u.User.Password()
		tunnel.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return net.JoinHostPort(u.Hostname(), port), tunnel, nil
}

// Connect opens the tunnel, then connects p's protocol through it.
func (p *proxied) Connect(ctx context.Context, conn net.Conn, _ string, limits engine.Limits) (engine.Codec, []byte, error) {
	if err := p.open(conn); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, fmt.Errorf("proxy: %w", err)
	}
	return p.StreamProtocol.Connect(ctx, conn, p.target, limits)
}

// open asks the proxy for a tunnel to the server. It reads byte by byte, because the
// bytes after the response are the server's.
func (p *proxied) open(conn net.Conn) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: p.target}, Host: p.target, Header: http.Header{}}
	req.Header.Set("User-Agent", "") // none
	if p.auth != "" {
		req.Header.Set("Proxy-Authorization", p.auth)
	}
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrConnectionLost, err)
	}
	head := &io.LimitedReader{R: byteReader{conn}, N: maxProxyHead}
	resp, err := http.ReadResponse(bufio.NewReader(head), req) //nolint:bodyclose // the body is the tunnel
	var network net.Error
	switch {
	case err == nil && resp.StatusCode/100 == 2:
		return nil
	case err == nil:
		return &ProxyError{Status: resp.StatusCode}
	case head.N <= 0:
		return fmt.Errorf("%w: %w: response above %d bytes", engine.ErrProtocol, engine.ErrTooLarge, maxProxyHead)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network):
		return fmt.Errorf("%w: %w", engine.ErrConnectionLost, err)
	}
	return fmt.Errorf("%w: %w", engine.ErrProtocol, err)
}

// byteReader reads at most one byte at a time.
type byteReader struct{ io.Reader }

func (r byteReader) Read(b []byte) (int, error) { return r.Reader.Read(b[:min(len(b), 1)]) }
