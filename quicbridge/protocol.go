// Package quicbridge carries Millrace's sessions over QUIC.
//
// A session is a QUIC connection. With the ALPN "millrace/1" its bidirectional
// streams carry packets back to back and its datagrams one packet each; without
// an ALPN the peer is taken for a msgtrans one, with a unidirectional stream for
// each packet (docs/WIRE.md section 3). 0-RTT is never accepted, because what it
// carries can be replayed.
//
// Streams. A message's Stream is a number that names the stream it came on;
// answered with Session.Reply it returns there. A message whose Stream is 0, or
// names no stream that is open, goes to the session's first stream: the first
// one that the client opened, or one that this side opens if there is none.
// Messages of one stream are handled in their order; those of different streams,
// and datagrams, in the order of their arrival. Messages of a msgtrans peer are
// ordered by the arrival of their streams' ends.
//
// Finishing. A peer may finish a stream (FIN) and go on reading from it. This
// side finishes a stream that the peer has finished once every Request that came
// on it has its last Response (or was cancelled); if a OneWay came that nobody
// has answered by a OneWay, a second after that, or earlier if there are many
// such streams. A stream is never finished under a Request that the handler
// leaves without an answer: it counts against Config.MaxStreams until the session
// ends.
//
// Ending. A session that is closed finishes all its streams and opens one more
// that it finishes without a byte, which tells a Millrace peer that it is
// leaving. The QUIC connection is closed, with a Code, when the peer has finished
// its streams too, so when it has read everything; or after LingerTimeout.
package quicbridge

import (
	"github.com/millrace/millrace/engine"
)

// Protocol is QUIC as an engine.Transport. One value serves any number of
// listeners and dialed sessions; those share one UDP socket per address family
// while there are any.
type Protocol struct {
	config  Config // every default filled in
	invalid error  // what Validate said
	dialer  dialer
}

var _ engine.Transport = (*Protocol)(nil)

// QUIC returns the protocol for Engine.Listen and Engine.Dial. An invalid cfg is
// reported by these.
func QUIC(cfg Config) *Protocol {
	return &Protocol{config: cfg.withDefaults(), invalid: cfg.Validate()}
}

// Name implements engine.Protocol. It is "quic".
func (p *Protocol) Name() string { return "quic" }
