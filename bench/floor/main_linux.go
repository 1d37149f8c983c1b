// Command floor is a minimal echo server on epoll: one level-triggered loop a core,
// which writes the bytes of each read back. It has no messages, no limits and no
// handler. Its rate is an upper bound for servers of this design on the machine, so
// other results are given as fractions of it. Linux only.
//
//	floor [--addr HOST:PORT] [--cores N]
//
// It prints "ready tcp://HOST:PORT" and serves until it gets SIGINT or SIGTERM.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8001", "`HOST:PORT` to serve on; port 0 picks one")
	cores := flag.Int("cores", runtime.GOMAXPROCS(0), "event loops")
	flag.Parse()
	if *cores < 1 {
		fmt.Fprintln(os.Stderr, "floor: --cores must be at least 1")
		os.Exit(2)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(listener, *cores) }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	fmt.Printf("ready tcp://%s\n", listener.Addr())
	select {
	case <-signals:
	case err := <-failed:
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}
