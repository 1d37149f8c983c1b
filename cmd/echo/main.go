// Command echo is Millrace's reference server: it answers every message with
// the same message, on TCP, WebSocket, TLS and QUIC at one address.
//
//	echo [--addr HOST:PORT] [--framing NAME] [--dispatch workers|inline]
//	     [--cores N] [--quic=false] [--log-level LEVEL] [--drain-timeout DURATION]
//	     [--tls-cert FILE --tls-key FILE | --tls-self-signed]
//
// HOST:PORT may be unix:PATH, without QUIC. A listening socket that systemd
// passes (LISTEN_FDS) is served instead of --addr.
//
// When it can be connected to it prints one line on stdout, "ready" followed by
// its endpoints as URLs; logs go to stderr. SIGINT and SIGTERM let it answer
// what has arrived and exit with 0. SIGUSR2 starts the program anew and hands it
// the listener, so that no connection is refused; this process exits when its
// sessions have ended or --drain-timeout is over. See docs/RESTART.md. SIGHUP reads
// the files of --tls-cert and --tls-key again, for connections to come. It exits with 2 when a flag or the address
// makes no sense, and with 1 when it can't serve.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
