package main

import (
	"fmt"
	"os"
)

// A logger is for gnet's own log, which would go to stdout otherwise, where the
// ready line must be the first. It keeps what went wrong, and writes it to
// stderr.
type logger struct{}

func (logger) Debugf(string, ...any) {}

func (logger) Infof(string, ...any) {}

func (logger) Warnf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", args...)
}

func (logger) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", args...)
}

func (logger) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gnet: "+format+"\n", args...)
	os.Exit(1)
}
