package bench

import (
	"crypto/tls"
	"net"
)

// A secureConn is TLS without a goroutine: the loop moves ciphertext between
// the socket and wire, and the tls.Conn sees a connection that would block.
type secureConn struct {
	tls  *tls.Conn
	wire *wire
}

// maxRecords is how much plaintext is encrypted at once, in bytes. Ciphertext that the
// socket doesn't accept is kept.
const maxRecords = 128 << 10

// A wire is the connection under a tls.Conn: the real one during the handshake,
// buffers from then on.
type wire struct {
	net.Conn
	buffered bool
	in       []byte // ciphertext that the loop has read; valid during its read
	out      []byte // ciphertext that the loop has to write
}

func (w *wire) Read(p []byte) (int, error) {
	if !w.buffered {
		return w.Conn.Read(p)
	}
	if len(w.in) == 0 {
		return 0, errWouldBlock
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

// Write always accepts: an error here would be the end of the tls.Conn.
func (w *wire) Write(p []byte) (int, error) {
	if !w.buffered {
		return w.Conn.Write(p)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// wouldBlock is a temporary net.Error, which crypto/tls doesn't keep: the next
// Read continues where this one ended, at any byte.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "bench: nothing to read yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}
