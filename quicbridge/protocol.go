// Package quicbridge carries Millrace's sessions over QUIC.
//
// A session is a QUIC connection. With the ALPN "millrace/1" its bidirectional
// streams carry packets back to back, and each datagram carries one packet. A peer
// without ALPN is treated as a msgtrans peer, which uses a unidirectional stream
// for each packet (docs/WIRE.md section 3). 0-RTT is never accepted, because its
// data can be replayed.
//
// Streams. Message.Stream is the number of the stream on which the message arrived;
// Session.Reply answers on the same stream. If Stream is 0, or the number of no
// open stream, a message goes to the session's first stream: the first one that the
// client opened, or one that this side opens if there is none. Messages of one
// stream are handled in their order. Messages of different streams, and datagrams,
// are handled in the order of their arrival. Messages of a msgtrans peer are
// handled in the order in which their streams end.
//
// Finishing. A peer may finish a stream (FIN) and go on reading from it. This side
// then finishes the stream when every Request that came on it has its last Response
// or was cancelled. If a OneWay on it was not answered by a OneWay, the stream is
// finished a second after its last message, or earlier if there are many such
// streams. If the handler never answers a Request, its stream is not finished, and
// counts against Config.MaxStreams until the session ends.
//
// Closing. Session.Close finishes all streams, and opens one more that it finishes
// without a byte; a Millrace peer takes that as the announcement of the close. The
// QUIC connection is closed with a Code when the peer has finished its streams too,
// because then it has read everything, or after LingerTimeout.
package quicbridge

import (
	"github.com/millrace/millrace/engine"
)

// Protocol is QUIC as an engine.Transport. One value serves any number of listeners
// and dialed sessions, from any goroutine. Dialed sessions share one UDP socket per
// address family. The zero value is not usable; New makes one.
type Protocol struct {
	config  Config // every default filled in
	invalid error  // the error of Validate
	dialer  dialer
}

var _ engine.Transport = (*Protocol)(nil)

// QUIC is New with the default Config.
func QUIC() *Protocol { return New(Config{}) }

// New returns the protocol for Engine.Listen and Engine.Dial. If cfg is invalid, Listen
// and Dial return the error of Validate.
func New(cfg Config) *Protocol {
	return &Protocol{config: cfg.withDefaults(), invalid: cfg.Validate()}
}

// Name implements engine.Protocol. It is "quic".
func (p *Protocol) Name() string { return "quic" }
