package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/quicbridge"
)

// server is an engine with its listeners.
type server struct {
	engine *engine.Engine
	opts   options
	logger *slog.Logger
	stream *engine.Listener

	reloads <-chan os.Signal // to read the certificate files again

	quic *engine.Listener // the listener with QUIC: stream, or a separate one; nil without
}

const (
	quicPatience = 10 * time.Second // for the predecessor to free its port
	quicPause    = 10 * time.Millisecond
)

// listen binds the address, or adopts the socket that was passed to this
// process. QUIC comes later if a predecessor has its port.
func (s *server) listen(in *inheritance) (err error) {
	if strings.HasPrefix(s.opts.addr, unixPrefix) && in.listener == nil {
		s.opts.quic = false
	}
	p := streamProtocols(s.opts)
	if s.opts.quic && !in.handedOver() {
		p = append(p, s.quicProtocol())
	}
	if in.listener == nil {
		s.stream, err = s.engine.Listen(s.opts.addr, p...)
	} else {
		s.stream, err = s.engine.Adopt(in.listener, p...)
	}
	if err != nil {
		return err
	}
	if s.opts.quic && !in.handedOver() {
		s.quic = s.stream
	}
	if !s.stream.Addr().IsValid() {
		s.opts.quic = false // a Unix socket
	}
	return nil
}

// takeOver sends the ready message and then binds the addresses that the predecessor
// frees. The predecessor stops, so a failure doesn't end the program.
func (s *server) takeOver(ctx context.Context, in *inheritance) {
	in.sayReady()
	in.close()
	if err := s.stream.SetUnlinkOnClose(true); err != nil { // the predecessor owned the file
		s.logger.Warn("the socket file will stay", "error", err)
	}
	if !s.opts.quic {
		return
	}
	if err := s.listenQUIC(ctx); err != nil {
		s.opts.quic = false
		s.logger.Error("going on without QUIC", "error", err)
	}
}

// listenQUIC binds the UDP port as soon as the predecessor has freed it.
func (s *server) listenQUIC(ctx context.Context) error {
	addr := s.stream.Addr().String()
	for deadline := time.Now().Add(quicPatience); ; {
		free, err := net.ListenPacket("udp", addr)
		if err == nil {
			_ = free.Close() // it was only a test
			if s.quic, err = s.engine.Listen(addr, s.quicProtocol()); err == nil {
				return nil
			}
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(quicPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve serves until ctx ends, or until a successor has taken over and the
// sessions have ended.
func (s *server) serve(ctx context.Context, restarts <-chan os.Signal) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.engine.Serve(ctx) }()
	defer context.AfterFunc(ctx, func() {
		if n := s.engine.Stats().Active; n > 0 {
			s.logger.Info("shutting down: sessions get their replies and a close, a second signal ends at once", "sessions", n)
		}
	})()
	for {
		select {
		case err := <-served:
			return err
		case <-s.reloads:
			s.reload()
			continue
		case <-restarts:
		}
		if err := startSuccessor(ctx, s.stream, s.logger); err != nil {
			s.logger.Error("restart failed, this process goes on", "error", err)
			continue
		}
		s.retire(ctx)
		stop()
		return <-served
	}
}

func (s *server) quicProtocol() engine.Protocol {
	return quicbridge.New(quicbridge.Config{TLS: s.opts.quicTLS(), SelfSigned: true})
}
