// Command echo is Millrace's reference server: it answers every message with
// the same message, on TCP, WebSocket, TLS and QUIC at one address.
//
//	echo [--addr HOST:PORT] [--framing NAME] [--dispatch workers|inline]
//	     [--cores N] [--memory-limit SIZE] [--quic=false] [--log-level LEVEL] [--drain-timeout DURATION]
//	     [--tls-cert FILE --tls-key FILE | --tls-self-signed]
//
// HOST:PORT may be unix:PATH, without QUIC. A listening socket that systemd
// passes (LISTEN_FDS) is served instead of --addr.
//
// When it accepts connections, it prints one line on stdout: "ready", followed by its
// endpoints as URLs. Logs go to stderr. After SIGINT or SIGTERM it answers the received
// messages and exits with 0. SIGUSR2 starts the program again and passes the listener
// to the new process, so that no connection is refused. The old process exits when its
// sessions have ended or --drain-timeout is over; see docs/RESTART.md. SIGHUP reads the
// files of --tls-cert and --tls-key again, for new connections. The exit code is 2 if a
// flag or the address is invalid, and 1 if it can't serve.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
