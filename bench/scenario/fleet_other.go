//go:build !linux

package main

import (
	"encoding/json"
	"net/netip"

	"github.com/millrace/millrace/bench"
)

// A fleet needs Linux's sockets, and so do the scenarios that are built on it.
type fleet struct {
	reset bool
	fds   []int
}

func newFleet(string, netip.AddrPort, []netip.Addr) *fleet { return &fleet{} }

func (f *fleet) open(int) error { return bench.ErrUnsupported }

func (f *fleet) close() {}

func fleetRole(json.RawMessage) (ready any, actions map[string]action, end func(), err error) {
	return nil, nil, nil, bench.ErrUnsupported
}
