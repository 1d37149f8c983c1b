package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Names of the optional rivals, and of the rivals that are compared with them.
const (
	msgtransServer = "msgtrans"
	uwebsockets    = "uWebSockets, one loop"
	inlineOne      = inline + ", one core"
	workersOne     = workers + ", one core"

	uwsProgram = "uwebsockets"
)

// withOptional returns all with the rivals that set's flags name, and a skip for each of
// the others.
func (set *settings) withOptional(all []group) []group {
	all = slices.Clone(all)
	for i := range all {
		switch g := &all[i]; g.name {
		case msgtransGroup.name:
			if set.msgtrans == "" {
				g.skipped = []skip{{msgtransServer, "no --msgtrans PATH"}}
				continue
			}
			g.contestants = slices.Concat([]contestant{
				{name: msgtransServer, program: set.msgtrans, scheme: "tcp", uncounted: true},
				{name: msgtransServer, program: set.msgtrans, scheme: "ws", path: "/", uncounted: true},
			}, g.contestants)
		case wsGroup.name:
			if set.uwebsockets == "" {
				g.skipped = []skip{{uwebsockets, "no --uwebsockets DIR"}}
				continue
			}
			one := millrace("ws", "/echo", true, "--cores", "1")
			one[0].name, one[1].name = inlineOne, workersOne
			g.contestants = slices.Concat(
				[]contestant{{name: uwebsockets, program: uwsProgram, scheme: "ws", path: "/", raw: true, uncounted: true}}, g.contestants, one)
		}
	}
	return all
}

// buildOptional builds uWebSockets into dir if it is a contestant, and skips it if that
// isn't possible. It reports all that is skipped to progress.
func (set *settings) buildOptional(ctx context.Context, root, dir string, progress io.Writer) {
	for i := range set.groups {
		g := &set.groups[i]
		isUWS := func(c contestant) bool { return c.program == uwsProgram }
		if slices.ContainsFunc(g.contestants, isUWS) {
			source := filepath.Join(root, "bench/peers/uwebsockets/echo.cpp")
			if err := buildUWebSockets(ctx, set.uwebsockets, source, dir); err != nil {
				g.contestants = slices.DeleteFunc(slices.Clone(g.contestants), func(c contestant) bool {
					return isUWS(c) || c.name == inlineOne || c.name == workersOne
				})
				g.skipped = append(g.skipped, skip{uwebsockets, err.Error()})
			}
		}
		for _, s := range g.skipped {
			fmt.Fprintf(progress, "compare: SKIPPED in group %s: %s: %s\n", g.name, s.name, s.reason)
		}
	}
}

// buildUWebSockets compiles source, our echo server, and uSockets of the checkout into
// dir. Its options are those of uWebSockets's own build, without TLS and compression.
func buildUWebSockets(ctx context.Context, checkout, source, dir string) error {
	checkout, err := filepath.Abs(checkout)
	if err != nil {
		return err
	}
	sockets := filepath.Join(checkout, "uSockets", "src")
	for _, needed := range []string{filepath.Join(checkout, "src", "App.h"), filepath.Join(sockets, "libusockets.h")} {
		if _, err := os.Stat(needed); err != nil {
			return fmt.Errorf("not a checkout with its submodules: %w", err)
		}
	}
	var files []string
	for _, pattern := range []string{"*.c", "eventing/*.c", "crypto/*.c"} {
		found, err := filepath.Glob(filepath.Join(sockets, pattern))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	objects := filepath.Join(dir, "usockets")
	if err := os.Mkdir(objects, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	options := []string{"-O3", "-flto=auto", "-DLIBUS_NO_SSL", "-I" + sockets}
	if _, err := command(ctx, objects, nil, "cc", slices.Concat(options, []string{"-c"}, files)...); err != nil {
		return err
	}
	compiled, err := filepath.Glob(filepath.Join(objects, "*.o"))
	if err != nil {
		return err
	}
	_, err = command(ctx, dir, nil, "c++", slices.Concat(options, []string{
		"-std=c++20", "-DUWS_NO_ZLIB", "-I" + filepath.Join(checkout, "src"), "-o", filepath.Join(dir, uwsProgram), source,
	}, compiled)...)
	return err
}
