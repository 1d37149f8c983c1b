package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A contestant is an echo server: Millrace's, or a rival's.
type contestant struct {
	name      string
	transport string // tcp or ws
	rival     string // program of bench/peers; empty for Millrace
	inline    bool   // Millrace's dispatch
	raw       bool   // it returns all bytes unchanged
}

// A running is a contestant's process.
type running struct {
	contestant
	pid    int
	url    string
	server *child // nil for a rival
	stop   func() error
}

// addr is the address in the URL.
func (r *running) addr() (netip.AddrPort, error) {
	_, rest, _ := strings.Cut(r.url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return netip.ParseAddrPort(host)
}

// startAll starts the contestants and returns how to end them all, which must
// be called whether or not there was an error.
func startAll(ctx context.Context, contestants []contestant) (all []*running, stop func() error, err error) {
	discard := func() {}
	stop = func() error {
		defer discard()
		var errs []error
		for _, r := range all {
			errs = append(errs, r.stop())
		}
		return errors.Join(errs...)
	}
	var names []string
	for _, c := range contestants {
		if c.rival != "" {
			names = append(names, c.rival)
		}
	}
	var dir string
	if len(names) > 0 {
		var clean func()
		if dir, clean, err = buildRivals(ctx, names...); err != nil {
			return nil, stop, err
		}
		discard = clean
	}
	for _, c := range contestants {
		r, err := c.start(ctx, dir)
		if err != nil {
			return all, stop, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, r)
	}
	return all, stop, nil
}

func (c contestant) start(ctx context.Context, rivals string) (*running, error) {
	if c.rival != "" {
		r, err := startRival(rivals, c.rival)
		if err != nil {
			return nil, err
		}
		return &running{contestant: c, pid: r.cmd.Process.Pid, url: r.url, stop: func() error { r.stop(); return nil }}, nil
	}
	server, addr, err := startServer(ctx, c.name, serverSettings{Transport: c.transport, Inline: c.inline})
	if err != nil {
		return nil, err
	}
	url := "tcp://" + addr.String()
	if c.transport == "ws" {
		url = wsURL(addr)
	}
	return &running{contestant: c, pid: server.pid(), url: url, server: server, stop: server.stop}, nil
}
