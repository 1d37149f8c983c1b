package main

import (
	"fmt"
	"os"
)

// A logger receives gnet's own log, which would otherwise go to stdout before the ready
// line. It writes the errors to stderr.
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
