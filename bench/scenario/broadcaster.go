package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// broadcastArgs are the message to broadcast, and the way.
type broadcastArgs struct {
	Way    string `json:"way"`
	Size   int    `json:"size"`
	Number uint32 `json:"number"`
}

// A broadcaster is the handler of every server child: it echoes, and it broadcasts,
// sleeps or sends much when the biz type of a message asks for it.
type broadcaster struct {
	engine *engine.Engine
}

var _ engine.Handler = (*broadcaster)(nil)

// OnOpen does nothing: the peer sends first.
func (b *broadcaster) OnOpen(*engine.Session) {}

// OnClose does nothing: the engine counts sessions.
func (b *broadcaster) OnClose(*engine.Session, error) {}

// OnMessage answers m.
func (b *broadcaster) OnMessage(s *engine.Session, m *framing.Message) {
	switch m.BizType {
	case triggerBiz:
		b.trigger(s, m)
	case sleepBiz:
		sleepAndAnswer(s, m)
	case fillBiz:
		answerMuch(s, m)
	default:
		answerMessage(s, m)
	}
}

// trigger broadcasts, and answers how many nanoseconds it took.
func (b *broadcaster) trigger(s *engine.Session, m *framing.Message) {
	var args broadcastArgs
	if err := json.Unmarshal(m.Payload, &args); err != nil {
		s.CloseWith(fmt.Errorf("scenario: %w", err))
		return
	}
	payload := broadcastPayload(args.Size, args.Number)
	start := time.Now()
	for other := range b.engine.Sessions() {
		if other != s {
			other.Send(payload)
		}
	}
	s.Reply(m, binary.BigEndian.AppendUint64(nil, uint64(time.Since(start))))
}

// run broadcasts outside of all handlers, and returns how long it took.
func (b *broadcaster) run(_ context.Context, args broadcastArgs) (any, error) {
	payload := broadcastPayload(args.Size, args.Number)
	start := time.Now()
	switch args.Way {
	case wayLoop:
		for s := range b.engine.Sessions() {
			if err := s.Send(payload); err != nil {
				return nil, err
			}
		}
	case wayGoroutines:
		sessions := slices.Collect(b.engine.Sessions())
		if err := inParallel(sessions, func(s *engine.Session) error { return s.Send(payload) }); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no way %q to broadcast", args.Way)
	}
	return time.Since(start), nil
}

// inParallel calls f for each of all, a goroutine a CPU, each with a part of
// them. It returns the first error of one part.
func inParallel[T any](all []T, f func(T) error) error {
	parts := runtime.NumCPU()
	errs := make(chan error, parts)
	var running sync.WaitGroup
	for i := range parts {
		part := all[i*len(all)/parts : (i+1)*len(all)/parts]
		running.Go(func() {
			for _, v := range part {
				if err := f(v); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs
}
