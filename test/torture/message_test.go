package torture_test

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Every message of an honest peer carries its sender's number, its lane and its
// number on that lane; the rest of its bytes follow from these. So its receiver
// can detect a lost, repeated, swapped or damaged message.
//
//	off size
//	 0   4   mark
//	 4   1   lane
//	 5   1   op: what the server must do
//	 6   2   not used, 0
//	 8   8   the sender's number, never 0
//	16   4   sequence number in the lane, from 0
//	20   4   in a reply, the server's own sequence number in the lane
//	24       filling
const (
	mark     = 0x6d696c6c
	headSize = 24
)

// The operations that a message requests.
const (
	opEcho  = 0 // a reply
	opClose = 1 // a reply, and then the end of the session
	opPanic = 2 // a panic in the handler
)

// Lanes: one for one-way messages, and one for each asker. An asker sends its next
// request after the last answer. Each lane is in order by itself.
const (
	laneOneWay = 0
	lanes      = 3
)

// maxPayload is the largest payload of an honest peer.
const maxPayload = 60 << 10

// appendPayload appends a message of size bytes in all, at least headSize.
func appendPayload(b []byte, sender uint64, lane, op uint8, seq uint32, size int) []byte {
	b = binary.BigEndian.AppendUint32(b, mark)
	b = append(b, lane, op, 0, 0)
	b = binary.BigEndian.AppendUint64(b, sender)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, 0)
	x := filling(sender, lane, seq)
	for n := size - headSize; n > 0; n -= 8 {
		x += 0x9e3779b97f4a7c15
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], x^x>>29)
		b = append(b, w[:min(n, 8)]...)
	}
	return b
}

// filling is the start of the filling of a message.
func filling(sender uint64, lane uint8, seq uint32) uint64 {
	return (sender^uint64(lane)<<56)*0xbf58476d1ce4e5b9 + uint64(seq)
}

// head is the start of a message that was checked.
type head struct {
	sender      uint64
	seq, server uint32
	lane, op    uint8
}

// parse compares every byte of a payload with the bytes that its head determines.
func parse(b []byte) (head, error) {
	if len(b) < headSize || binary.BigEndian.Uint32(b) != mark {
		return head{}, fmt.Errorf("no message of ours: %d bytes, %x", len(b), b[:min(len(b), headSize)])
	}
	h := head{lane: b[4], op: b[5], sender: binary.BigEndian.Uint64(b[8:]),
		seq: binary.BigEndian.Uint32(b[16:]), server: binary.BigEndian.Uint32(b[20:])}
	if h.lane >= lanes || h.op > opPanic || b[6] != 0 || b[7] != 0 {
		return h, fmt.Errorf("damaged head %x", b[:headSize])
	}
	x := filling(h.sender, h.lane, h.seq)
	for i := headSize; i < len(b); i += 8 {
		x += 0x9e3779b97f4a7c15
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], x^x>>29)
		if rest := b[i:min(i+8, len(b))]; string(rest) != string(w[:len(rest)]) {
			return h, fmt.Errorf("wrong bytes at %d of %d in message %d of lane %d", i, len(b), h.seq, h.lane)
		}
	}
	return h, nil
}

// sequence counts one lane in one direction, and checks each received number.
type sequence struct {
	next atomic.Uint32
}

// take accepts seq if it is the next one. lost is the number of messages
// missing before it. again is set if it was received before.
func (q *sequence) take(seq uint32) (lost uint32, again bool) {
	next := q.next.Load()
	switch {
	case seq < next:
		return 0, true
	case seq > next:
		q.next.Store(seq + 1)
		return seq - next, false
	}
	q.next.Store(seq + 1)
	return 0, false
}

// account is the server's record of one honest peer; the peer compares it with its own
// record.
type account struct {
	received       [lanes]sequence
	opened, closed atomic.Int32
	reason         atomic.Pointer[error]
}
