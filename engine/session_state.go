package engine

import "fmt"

// A session's state consists of small enumerations and sets. Each has one owner:
//
//	phase    Session     how far the session is: may it send, is it ending?  guarded by out.mu
//	stage    socketConn  the kind of the next input bytes                    the loop's
//	input    socketConn  the handling of input bytes                         the loop's
//	backlog  socketConn  the pending steps of the loop, in order             the loop's
//	awaits   deadlines   the purpose of the session's deadline               the loop's
//	output   socketConn  the goroutine that writes to the socket             guarded by out.mu
//	closing  Session     the calls and callbacks that have ended             atomic, written under out.mu
//	reading  Session     reasons not to read (session_reading.go)            atomic
//
// phase, stage and input only grow. A session of a Transport has a phase and a closing
// state only; its Link keeps the rest.
//
//	stage ->  proxyHeader -> tlsOrPlain -> tlsHandshake -> unknown -> handshake -> open -> gone
//	          (each may be skipped; gone follows any)
//
//	phase ->  handshake -> open -> held -> closing -> drained -> ended
//
//	  open, handshake   the peer ends its side, Shutdown, invalid bytes, idle: an end record follows;
//	                    when it is handled: holds and an orderly reason -> held, else -> closing
//	  held              the last Release -> closing
//	  any of these      Close -> closing; a failed write -> drained, broken: received bytes are read;
//	                    Abort, a failed read, a slow consumer -> ended
//	  closing           everything is written -> drained
//	  drained           the peer's end was read, or LingerTimeout has passed -> ended
//
//	output -> idle <-> replies                the core's reply buffer is open, in front of the outbox
//	          idle -> writing -> idle         everything is written
//	          writing -> full                 a write found the socket full; it is tried once more
//	          full -> blocked -> full         it was full again; the poller reports space
//	          full -> retry -> full           the poller reports space while a goroutine writes
//	          writing, full -> scheduled -> writing    the flush used up its budget; the loop continues it
//	          writing, full, retry -> broken  a write failed
//
// legalStates is the table that checkState enforces in builds with the race detector.

// phase is how far a session is, from handshake to end. It only grows.
type phase uint8

const (
	phaseHandshake phase = iota // bytes flow, messages do not
	phaseOpen                   // messages flow
	phaseHeld                   // all messages are handled and the peer has ended; the end waits for Release
	phaseClosing                // nothing more can be sent; the outbox is being written
	phaseDrained                // everything is written and our side is shut down; the peer's end is awaited
	phaseEnded                  // the descriptor is closed, or will be after its writer has finished
)

// stage is the kind of the next input bytes of a socket. It only grows.
type stage uint8

const (
	stageProxyHeader  stage = iota // a PROXY header
	stageTLSOrPlain                // a ClientHello, or a protocol without TLS
	stageTLSHandshake              // ciphertext of the TLS handshake
	stageUnknown                   // the first bytes of a protocol of the listener
	stageHandshake                 // the handshake of the codec's protocol
	stageOpen                      // messages
	stageGone                      // nothing: the descriptor is closed
)

// input is how the bytes of a socket are handled. It only grows.
type input uint8

const (
	inputFlowing  input = iota // read when the poller reports input
	inputFinal                 // read until the end or an error: a short read no longer means that the socket is drained
	inputDraining              // read and dropped: the session is ending
	inputEnded                 // the end, or an error, was read
)

// backlog is the set of pending steps of a connection on its loop, in the order of the
// bits, and whether they wait for ring space.
type backlog uint16

const (
	dueOpen     backlog = 1 << iota // post the open record
	dueMessage                      // put undelivered into the ring
	dueTail                         // decode the tail: it may hold whole messages
	dueShutdown                     // end the session after its received messages were delivered
	dueEnd                          // post the end record
	dueClosed                       // post the closed record
	dueSocket                       // read: the socket may contain bytes that no event will announce
	waiting                         // in core.stalledQueue: no step is made before the ring has space
	handling                        // the worker handles its messages in place: the reader makes no step meanwhile
)

// output is the goroutine that writes to a socket, and why it does not.
type output uint32

const (
	outputIdle      output = iota // none; queued bytes wait until the session is uncorked
	outputReplies                 // none, until the consumer closes its reply buffer
	outputWriting                 // the goroutine in flushLocked
	outputFull                    // the same; its last write found the socket full
	outputRetry                   // the same; the poller has reported space since then
	outputBlocked                 // none: the loop will write when the poller reports space
	outputScheduled               // none: the loop will write after its other sockets
	outputBroken                  // none any more: a write failed
)

// writing reports whether a goroutine is in flushLocked and may use the
// descriptor.
func (o output) writing() bool { return o >= outputWriting && o <= outputRetry }

// Session.closing is the calls and callbacks of a session that have ended. It is read
// without a lock.
const (
	closingNot   uint32 = iota
	closingSends        // nothing can be sent any more; received messages are still handled
	closingAll          // no callback but OnClose runs any more
)

// legalStates lists the inputs and phases that each stage may occur with.
var legalStates = [...]struct{ inputs, phases uint8 }{
	stageProxyHeader:  {anyInput, before(phaseOpen)},
	stageTLSOrPlain:   {anyInput, before(phaseOpen)},
	stageTLSHandshake: {anyInput, before(phaseOpen)},
	stageUnknown:      {anyInput, before(phaseOpen)},
	stageHandshake:    {anyInput, before(phaseOpen)},
	stageOpen:         {anyInput, 1<<phaseOpen | 1<<phaseHeld | ending},
	stageGone:         {1<<inputDraining | 1<<inputEnded, 1 << phaseEnded},
}

const (
	anyInput = 1<<inputFlowing | 1<<inputFinal | 1<<inputDraining | 1<<inputEnded
	ending   = 1<<phaseClosing | 1<<phaseDrained | 1<<phaseEnded
)

// before returns the phases below p, and those of ending: the phases of a connection
// whose session has not opened.
func before(p phase) uint8 { return 1<<p - 1 | ending }

// checkState panics if legalStates or the rules below exclude the state of c. Builds with
// the race detector call it after each event, task and deadline. On the loop.
func checkState(c *socketConn) {
	s := c.session
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	legal, out, due := legalStates[c.stage], c.outputState(), c.backlog
	for _, rule := range [...]struct {
		broken bool
		text   string
	}{
		{legal.inputs>>c.input&1 == 0, "input does not fit the stage"},
		{legal.phases>>s.phase&1 == 0, "phase does not fit the stage"},
		{(c.codec == nil) != (c.stage < stageHandshake) && c.stage != stageGone, "codec does not fit the stage"},
		{(s.phase >= phaseClosing) != (s.closing.Load() != closingNot), "closing does not follow the phase"},
		{s.phase >= phaseClosing && s.out.refused == nil, "an ending session has no reason"},
		{(due&dueMessage != 0) != (c.undelivered != nil), "dueMessage without a message, or the reverse"},
		{due&dueTail != 0 && (c.input >= inputDraining || c.tail == nil), "dueTail without a tail to decode"},
		{due&(dueOpen|dueMessage|dueEnd|dueClosed) != 0 && due&waiting == 0, "a record waits for space, but not in the queue"},
		{c.stage == stageGone && (c.tail != nil || c.timer.Armed() || due&(dueTail|dueShutdown) != 0), "a closed connection holds something"},
		{c.stage == stageGone && out.writing(), "a closed descriptor is written to"},
		{out == outputBroken && s.phase < phaseDrained, "a broken connection is open"},
	} {
		if rule.broken {
			panic(fmt.Sprintf("engine: session %x: %s (stage %d, input %d, backlog %b, output %d, phase %d)",
				uint64(s.id), rule.text, c.stage, c.input, due, out, s.phase))
		}
	}
}
