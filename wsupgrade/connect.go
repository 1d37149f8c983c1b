package wsupgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// errResponseTooLarge is the error for a response above maxHandshake bytes.
var errResponseTooLarge = fmt.Errorf("%w: handshake response above %d bytes", engine.ErrTooLarge, maxHandshake)

// Connect implements engine.StreamProtocol: the client's opening handshake (RFC
// 6455 section 4.1) for the protocol's first path. It blocks until the server has
// answered, conn fails or ctx ends (the engine interrupts conn then). rest holds
// the bytes that were read after the response; the caller owns them.
//
// Errors: a *HandshakeError, which is engine.ErrRefused, if the server answers with
// another HTTP status than 101; engine.ErrProtocol if the response violates RFC
// 6455, and also engine.ErrTooLarge if it is above 16 KiB; ctx's error if ctx has
// ended; otherwise engine.ErrConnectionLost with conn's error.
func (p *Protocol) Connect(ctx context.Context, conn net.Conn, addr string, limits engine.Limits) (
	codec engine.Codec, rest []byte, err error) {
	if p.invalid != nil {
		return nil, nil, p.invalid
	}
	if len(p.routes) == 0 {
		return nil, nil, errors.New("wsupgrade: a Protocol without a path can't dial")
	}
	r := p.routes[0]
	u := &url.URL{Scheme: "ws", Host: hostOf(addr), Path: r.path}
	if rest, _, err = upgrade(ctx, conn, ws.Dialer{}, u); err != nil {
		return nil, nil, err
	}
	return newClientCodec(p, r, &limits), rest, nil
}

// upgrade makes the client's handshake d for u on conn, with the errors of Connect.
func upgrade(ctx context.Context, conn net.Conn, d ws.Dialer, u *url.URL) (rest []byte, subprotocol string, err error) {
	bounded := &boundedConn{conn: conn, left: maxHandshake}
	br, accepted, err := d.Upgrade(bounded, u)
	if err != nil {
		return nil, "", connectError(ctx, bounded, err)
	}
	rest, err = readAhead(br)
	return rest, accepted.Protocol, err
}

// hostOf returns the Host header for addr. For a Unix socket it is "localhost".
func hostOf(addr string) string {
	if addr == "" || strings.ContainsAny(addr, "/@") {
		return "localhost"
	}
	return addr
}

// readAhead returns a copy of the bytes after the response that are buffered in br,
// and returns br to its pool. br comes from ws.Dialer and may be nil.
func readAhead(br *bufio.Reader) ([]byte, error) {
	if br == nil {
		return nil, nil
	}
	defer ws.PutReader(br)
	rest := make([]byte, br.Buffered())
	_, err := io.ReadFull(br, rest)
	return rest, err
}

// connectError classifies an error of the handshake.
func connectError(ctx context.Context, conn *boundedConn, err error) error {
	var status ws.StatusError
	switch {
	case errors.As(err, &status):
		return &HandshakeError{Status: int(status), refused: true}
	case conn.failure == errResponseTooLarge:
		return fmt.Errorf("%w: %w", engine.ErrProtocol, conn.failure)
	case conn.failure == nil:
		return fmt.Errorf("%w: wsupgrade: handshake: %w", engine.ErrProtocol, err)
	case ctx.Err() != nil:
		return fmt.Errorf("wsupgrade: handshake: %w", ctx.Err())
	}
	return fmt.Errorf("%w: wsupgrade: handshake: %w", engine.ErrConnectionLost, conn.failure)
}

// boundedConn is a connection during the client's handshake. It keeps its first
// error, which distinguishes a failed connection from an invalid response.
type boundedConn struct {
	conn    net.Conn
	left    int // bytes that may still be read
	failure error
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		c.failure = errResponseTooLarge
		return 0, c.failure
	}
	n, err := c.conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, c.note(err)
}

func (c *boundedConn) Write(p []byte) (int, error) {
	n, err := c.conn.Write(p)
	return n, c.note(err)
}

func (c *boundedConn) note(err error) error {
	if c.failure == nil {
		c.failure = err
	}
	return err
}
