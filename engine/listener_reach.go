package engine

import (
	"errors"
	"fmt"
	"slices"
)

// Match selects among a listener's stream protocols, in their order. If an earlier
// protocol matches every opening of a later one, the later one would never get a
// connection, without any error. So Listen refuses that. It finds the openings by
// calling Match byte by byte, so a protocol needs no other method for this.

const (
	maxOpening = 64      // bytes of an opening
	maxProbes  = 1 << 14 // calls of Match for one protocol
)

// argument is one of the protocols passed to Listen, for errors.
type argument struct {
	index    int
	protocol Protocol
}

func (a argument) String() string {
	return fmt.Sprintf("protocol %d (%s, %T)", a.index+1, a.protocol.Name(), a.protocol)
}

// checkProtocols returns an error if a protocol could have no effect: a second one of a
// kind of which a listener has one, or a stream protocol that no connection could
// reach. The error names both protocols.
func checkProtocols(protocols []Protocol) error {
	var streams, others []argument
	for i, p := range protocols {
		a := argument{i, p}
		switch p.(type) {
		case *TLSProtocol, ProxyProtocol:
			for _, o := range others {
				if fmt.Sprintf("%T", o.protocol) == fmt.Sprintf("%T", p) {
					return fmt.Errorf("%w: %s after %s: a listener has one", errProtocolTwice, a, o)
				}
			}
			others = append(others, a)
		case StreamProtocol:
			streams = append(streams, a)
		case Transport:
			for _, o := range others {
				if _, ok := o.protocol.(Transport); ok && o.protocol.Name() == p.Name() {
					return fmt.Errorf("%w: %s after %s: both would bind the same port", errProtocolTwice, a, o)
				}
			}
			others = append(others, a)
		}
	}
	for i := 1; i < len(streams); i++ {
		if by, ok := unreachable(streams[:i+1]); ok {
			return fmt.Errorf("%w: %s takes every connection that %s would take", errUnreachable, by, streams[i])
		}
	}
	return nil
}

var (
	errProtocolTwice = errors.New("a protocol is given twice")
	errUnreachable   = errors.New("a protocol can't be reached")
)

// unreachable reports whether no opening selects the last protocol, and which protocol
// gets the first opening instead. A protocol without known openings counts as
// reachable, unless an earlier one matches every first byte.
func unreachable(streams []argument) (by argument, ok bool) {
	last := streams[len(streams)-1]
	found := openings(last.protocol.(StreamProtocol))
	if len(found) == 0 {
		found = anything()
	}
	for i, opening := range found {
		taker, taken := firstMatch(streams, opening)
		if !taken || taker == last {
			return argument{}, false
		}
		if i == 0 {
			by = taker
		}
	}
	return by, true
}

// firstMatch returns the protocol that would get a connection with these first bytes,
// if they arrive together. taken is false if there is none, or more bytes are needed.
func firstMatch(streams []argument, first []byte) (by argument, taken bool) {
	for _, a := range streams {
		switch probe(a.protocol.(StreamProtocol), first) {
		case MatchYes:
			return a, true
		case MatchMore:
			return argument{}, false
		case MatchNo:
		}
	}
	return argument{}, false
}

// openings returns the shortest first bytes for which p returns MatchYes, as many as
// maxProbes calls of Match find.
func openings(p StreamProtocol) (found [][]byte) {
	more := [][]byte{{}}
	for probes := 0; len(more) > 0; more = more[1:] {
		if len(more[0]) == maxOpening {
			continue
		}
		for b := range 1 << 8 {
			if probes++; probes > maxProbes {
				return found
			}
			first := slices.Concat(more[0], []byte{byte(b)})
			switch probe(p, first) {
			case MatchYes:
				found = append(found, first)
			case MatchMore:
				more = append(more, first)
			case MatchNo:
			}
		}
	}
	return found
}

// probe calls p.Match(first). A protocol that panics matches nothing here. In a session
// its panic ends the session.
func probe(p StreamProtocol, first []byte) (m Match) {
	defer func() {
		if recover() != nil {
			m = MatchNo
		}
	}()
	return p.Match(first)
}

// anything returns every possible first byte.
func anything() (all [][]byte) {
	for b := range 1 << 8 {
		all = append(all, []byte{byte(b)})
	}
	return all
}
