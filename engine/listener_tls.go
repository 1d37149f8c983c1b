package engine

import "errors"

// Transport names of sessions over TLS: packets and framings, and WebSocket.
const (
	tlsTransport = "tls"
	wssTransport = "wss"
)

// secureName returns the transport name, over TLS, of a protocol called name.
func secureName(name string) string {
	switch name {
	case (packets{}).Name(), unixTransport:
		return tlsTransport
	case "ws":
		return wssTransport
	}
	return name + "+tls"
}

// useTLS puts l.tls under l's stream protocols, when they are all known.
func (l *Listener) useTLS() error {
	if l.tls == nil {
		return nil
	}
	if len(l.streams) == 0 {
		return errors.New("TLS is given without a StreamProtocol to carry")
	}
	for _, sp := range l.streams {
		sp.secure = l.engine.stats.transport(secureName(sp.protocol.Name()))
	}
	if l.fallback == nil && len(l.streams) == 1 {
		l.fallback = l.streams[0] // for clients that do not begin with a ClientHello
	}
	if l.tls.cfg.SelfSigned {
		l.engine.cfg.Logger.Warn("engine: TLS with a development certificate that no client can verify")
	}
	return nil
}

// sole returns the listener's only protocol, which is selected without first bytes, or
// nil.
func (l *Listener) sole() *streamProtocol {
	if len(l.streams) == 1 && l.tls == nil {
		return l.streams[0]
	}
	return nil
}
