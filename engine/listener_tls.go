package engine

import "errors"

// What sessions over TLS are called: packets and framings, and WebSocket.
const (
	tlsTransport = "tls"
	wssTransport = "wss"
)

// secureName is what sessions of a protocol called name are called over TLS.
func secureName(name string) string {
	switch name {
	case (packets{}).Name(), unixTransport:
		return tlsTransport
	case "ws":
		return wssTransport
	}
	return name + "+tls"
}

// useTLS puts p under l's stream protocols, when they are all known.
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
		l.fallback = l.streams[0] // whoever doesn't begin with a ClientHello
	}
	if l.tls.cfg.SelfSigned {
		l.engine.cfg.Logger.Warn("engine: TLS with a development certificate that no client can verify")
	}
	return nil
}

// sole is the listener's only protocol, which needs no first bytes to be told
// by, or nil.
func (l *Listener) sole() *streamProtocol {
	if len(l.streams) == 1 && l.tls == nil {
		return l.streams[0]
	}
	return nil
}
