package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/wsupgrade"
)

// Exit codes.
const (
	exitServed  = 0 // ended by a signal, everything answered
	exitFailed  = 1 // couldn't serve: a busy port, no more memory; or sessions were cut at the end
	exitMisused = 2 // a flag or the address is invalid
)

// run is the program without its process: it serves until ctx ends and returns
// the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitServed
	case err != nil:
		return complain(stderr, exitMisused, err)
	}
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.logLevel}))
	if opts.memory > 0 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(heapLimit(opts.memory)))
	}
	cfg := engine.Config{
		Handler:  echo{logger},
		Dispatch: opts.dispatch,
		Cores:    opts.cores,
		Logger:   logger,

		MemoryLimit: opts.memory,
	}
	if err := cfg.Validate(); err != nil { // the other flags are checked
		return complain(stderr, exitMisused, fmt.Errorf("--memory-limit: %w", err))
	}
	e := engine.New(cfg)
	defer e.Close() // for returns before Serve, which closes it too
	restarts := make(chan os.Signal, 1)
	signal.Notify(restarts, syscall.SIGUSR2)
	defer signal.Stop(restarts)
	in, err := inherit()
	if err != nil {
		return complain(stderr, exitMisused, err)
	}
	defer in.close()
	s := &server{engine: e, opts: opts, logger: logger}
	var unwatch func()
	s.reloads, unwatch = opts.watchReloads()
	defer unwatch()
	if err := s.listen(&in); err != nil {
		return complain(stderr, bindCode(err), fmt.Errorf("--addr %s: %w", opts.addr, err))
	}
	if err := e.Start(); err != nil {
		return complain(stderr, exitFailed, err)
	}
	if in.handedOver() {
		s.takeOver(ctx, &in)
	}
	if _, err := fmt.Fprintln(stdout, "ready", endpoints(s.opts, s.stream.String())); err != nil && !in.handedOver() {
		return complain(stderr, exitFailed, fmt.Errorf("can't say that it is ready: %w", err))
	}
	if err := s.serve(ctx, restarts); err != nil {
		return complain(stderr, exitFailed, err)
	}
	return exitServed
}

// streamProtocols are the protocols of the stream socket. A framing other than packets
// can't be recognised by its first bytes, so it has the TCP port for itself.
func streamProtocols(opts options) []engine.Protocol {
	var p []engine.Protocol
	if opts.tls != nil {
		p = append(p, opts.tls)
	}
	if opts.framer != nil {
		return append(p, engine.Framed(opts.framer))
	}
	return append(p, engine.Packets(), wsupgrade.New(wsupgrade.Config{
		Packets: []string{"/ws"}, Plain: []string{"/echo"}, Origins: []string{"*"}, // its clients are pages from anywhere
	}))
}

// endpoints are the URLs that the listener at addr serves, separated by spaces.
func endpoints(opts options, addr string) string {
	if strings.HasPrefix(addr, unixPrefix) {
		return addr
	}
	urls := []string{"tcp://" + addr}
	if opts.framer == nil {
		urls = append(urls, "ws://"+addr+"/ws", "ws://"+addr+"/echo")
	}
	if opts.quic {
		urls = append(urls, "quic://"+addr)
	}
	if opts.tls != nil {
		urls = append(urls, "tls://"+addr)
		if opts.framer == nil {
			urls = append(urls, "wss://"+addr+"/ws", "wss://"+addr+"/echo")
		}
	}
	return strings.Join(urls, " ")
}

// bindCode is the exit code for err, an address that can't be bound: an address
// of another machine is misuse, a busy one is a failure.
func bindCode(err error) int {
	var unknown *net.DNSError
	if errors.As(err, &unknown) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return exitMisused
	}
	return exitFailed
}

// complain writes err as one line and returns code.
func complain(stderr io.Writer, code int, err error) int {
	fmt.Fprintln(stderr, "echo:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}
