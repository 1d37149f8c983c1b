package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Biz types of messages that ask a handler for more than an echo.
const (
	sleepBiz = 201 // sleep for the nanoseconds of the payload, then echo
	fillBiz  = 202 // answer with as many bytes as the payload says
)

// Bounds of what a message may ask for.
const (
	maxSleep = time.Second
	maxFill  = 1 << 20 // bytes
)

// sleepRequest is a message that makes the handler sleep, and its reply.
func sleepRequest(id uint32, d time.Duration) (request, reply []byte) {
	return requestAndReply(id, sleepBiz, binary.BigEndian.AppendUint64(nil, uint64(d)))
}

// requestAndReply are a Request and the Response that echoes it.
func requestAndReply(id uint32, biz byte, payload []byte) (request, reply []byte) {
	m := framing.Message{Type: framing.Request, ID: id, BizType: biz, Payload: payload}
	request = mustPacket(&m)
	m.Type = framing.Response
	return request, mustPacket(&m)
}

func sleepAndAnswer(s *engine.Session, m *framing.Message) {
	if len(m.Payload) != 8 || binary.BigEndian.Uint64(m.Payload) > uint64(maxSleep) {
		s.CloseWith(fmt.Errorf("scenario: a sleep of % x", m.Payload))
		return
	}
	time.Sleep(time.Duration(binary.BigEndian.Uint64(m.Payload)))
	s.Reply(m, m.Payload)
}

// fillRequest is a message whose reply has size bytes of payload, and the reply.
func fillRequest(id uint32, size int) (request, reply []byte) {
	request = mustPacket(&framing.Message{Type: framing.Request, ID: id, BizType: fillBiz,
		Payload: binary.BigEndian.AppendUint32(nil, uint32(size))})
	return request, mustPacket(&framing.Message{Type: framing.Response, ID: id, BizType: fillBiz, Payload: broadcastPayload(size, id)})
}

func answerMuch(s *engine.Session, m *framing.Message) {
	if len(m.Payload) != 4 || binary.BigEndian.Uint32(m.Payload) > maxFill {
		s.CloseWith(fmt.Errorf("scenario: a reply of % x bytes", m.Payload))
		return
	}
	s.Reply(m, broadcastPayload(int(binary.BigEndian.Uint32(m.Payload)), m.ID))
}
