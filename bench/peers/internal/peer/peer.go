// Package peer has the common parts of the rivals: the command line, the ready line
// and the echo of packets.
package peer

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// Sizes in bytes of all rivals that can set them.
const (
	BufferSize     = 64 << 10 // as large as the engine's read buffer
	MaxMessageSize = 1 << 20  // the engine's default
)

// Serve serves addr until an error, and calls ready with its URL when it accepts
// connections. It blocks, and its servers last as long as the process.
type Serve func(addr string, ready func(url string)) error

// Main is a rival's main function: it reads the flags, --addr and those that
// were defined before, prints "ready URL" and returns when SIGINT or SIGTERM
// comes. It ends the process with 1 when serve fails.
func Main(name string, serve Serve) {
	addr := flag.String("addr", "127.0.0.1:8001", "`HOST:PORT` to serve on; port 0 picks one")
	flag.Parse()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	failed := make(chan error, 1)
	go func() { failed <- serve(*addr, func(url string) { fmt.Println("ready", url) }) }()
	select {
	case <-signals:
	case err := <-failed:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Accept calls serve in a goroutine of its own for each connection of listener,
// until accepting fails.
func Accept(listener net.Listener, serve func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(conn)
	}
}
