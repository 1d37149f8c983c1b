package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// A receiver waits until every session of a fleet has received the same bytes.
type receiver struct {
	fds   []int
	epoll int
	got   []int // expected bytes that each session has received
	buf   []byte
}

// delivery is the time when the last session had received everything, or the error.
type delivery struct {
	at  time.Time
	err error
}

func (d delivery) result() (time.Time, error) { return d.at, d.err }

func newReceiver(f *fleet) (*receiver, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	r := &receiver{fds: f.fds, epoll: epoll, got: make([]int, len(f.fds)), buf: make([]byte, 128<<10)}
	for i, fd := range r.fds {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			r.close()
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return r, nil
}

func (r *receiver) close() { unix.Close(r.epoll) }

// expect starts to wait for frame on every session. The one delivery that it
// sends comes within patience, or soon after ctx ended.
func (r *receiver) expect(ctx context.Context, frame []byte) <-chan delivery {
	done := make(chan delivery, 1)
	go func() {
		err := r.receive(ctx, frame)
		done <- delivery{time.Now(), err}
	}()
	return done
}

func (r *receiver) receive(ctx context.Context, frame []byte) error {
	clear(r.got)
	events := make([]unix.EpollEvent, 512)
	deadline := time.Now().Add(patience)
	for missing := len(r.fds); missing > 0; {
		n, err := unix.EpollWait(r.epoll, events, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			whole, err := r.read(int(event.Fd), frame)
			if err != nil {
				return fmt.Errorf("session %d: %w", event.Fd, err)
			}
			if whole {
				missing--
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d sessions received nothing, or only a part, within %v", missing, len(r.fds), patience)
		}
	}
	return nil
}

// read verifies the bytes that session i received, and reports whether they are complete.
func (r *receiver) read(i int, frame []byte) (whole bool, err error) {
	n, err := unix.Read(r.fds[i], r.buf)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.ErrUnexpectedEOF
	}
	rest := frame[r.got[i]:]
	if n > len(rest) || !bytes.Equal(r.buf[:n], rest[:n]) {
		return false, fmt.Errorf("got [% x] (%d bytes) after %d bytes of [% x]", r.buf[:min(n, 48)], n, r.got[i], frame[:min(len(frame), 48)])
	}
	r.got[i] += n
	return r.got[i] == len(frame), nil
}
