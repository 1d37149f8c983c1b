package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// unixPrefix begins an address that is a Unix socket's path.
const unixPrefix = "unix:"

// options are the command line's, checked.
type options struct {
	addr     string
	framer   framing.Framer // nil for packets, which leaves sniffing on
	dispatch engine.Dispatch
	cores    int   // 0 for as many as there are CPUs
	memory   int64 // bytes; 0 for the engine's default
	quic     bool
	logLevel slog.Level

	tls          *engine.TLSProtocol // nil without
	drainTimeout time.Duration       // for the sessions of a process with a successor
}

// framers are the values of --framing. Packets are the engine's own protocol
// and need no framer here. Lines keep their CR, so that the reply equals the
// request.
var framers = map[string]framing.Framer{
	"packet":    nil,
	"line":      framing.Line{KeepCR: true},
	"muxline":   framing.MuxLine{Role: framing.Server},
	"length":    framing.LengthPrefix{},
	"delimiter": framing.Delimiter{},
	"raw":       framing.Raw{},
}

// parseFlags reads args. Its errors are one line that names the flag;
// flag.ErrHelp means that usage was written to help.
func parseFlags(args []string, help io.Writer) (options, error) {
	o := options{addr: "127.0.0.1:8001", quic: true, logLevel: slog.LevelInfo, drainTimeout: 30 * time.Second}
	var secure tlsFlags
	fs := flag.NewFlagSet("echo", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // its own reports span several lines
	fs.Func("addr", "`HOST:PORT` to serve on, TCP and UDP alike; port 0 picks one; or unix:PATH, without QUIC; "+
		"a socket passed by systemd is used instead (default 127.0.0.1:8001)", func(v string) error {
		o.addr = v
		return checkAddr(v)
	})
	fs.Func("framing", "of plain TCP: `packet|line|muxline|length|delimiter|raw`; any other than packet excludes WebSocket "+
		"(default packet)", func(v string) error {
		framer, ok := framers[v]
		if !ok {
			return errors.New("must be packet, line, muxline, length, delimiter or raw")
		}
		o.framer = framer
		return nil
	})
	fs.Func("dispatch", "threads that handle messages: `workers|inline` (default workers)", func(v string) error {
		switch v {
		case "workers":
			o.dispatch = engine.Workers
		case "inline":
			o.dispatch = engine.Inline
		default:
			return errors.New("must be workers or inline")
		}
		return nil
	})
	fs.Func("cores", "`N` event loops, 1 to 256 (default: one for each CPU)", func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 256 {
			return errors.New("must be 1 to 256")
		}
		o.cores = n
		return nil
	})
	o.registerMemory(fs)
	fs.BoolVar(&o.quic, "quic", o.quic, "serve QUIC on the UDP port of the same number")
	secure.register(fs)
	fs.Func("drain-timeout", "`DURATION` in which sessions may end after SIGUSR2 has started a successor (default 30s)", func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return errors.New("must be a duration such as 30s, not below 0")
		}
		o.drainTimeout = d
		return nil
	})
	fs.Func("log-level", "`debug|info|warn|error` (default info)", func(v string) error {
		if o.logLevel.UnmarshalText([]byte(v)) != nil {
			return errors.New("must be debug, info, warn or error")
		}
		return nil
	})
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			printUsage(fs, help)
			return o, err
		}
		return o, namedFlag(err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: every setting is a flag, as in --addr=HOST:PORT", fs.Arg(0))
	}
	var err error
	o.tls, err = secure.protocol()
	return o, err
}

// printUsage writes the usage to w, with two dashes before each flag, as in this
// program's documentation.
func printUsage(fs *flag.FlagSet, w io.Writer) {
	var defaults strings.Builder
	fs.SetOutput(&defaults)
	fs.PrintDefaults()
	fmt.Fprint(w, "usage: echo [flags]\n", strings.ReplaceAll("\n"+defaults.String(), "\n  -", "\n  --"))
}

// namedFlag formats an error of package flag with the flag as in the usage, in one
// line even if the value contains several.
func namedFlag(err error) error {
	text := strings.NewReplacer("flag -", "flag --", " for -", " for --", ": -", ": --", "\n", `\n`).Replace(err.Error())
	return errors.New(text)
}

// checkAddr refuses addresses that no machine can bind: the system's own
// error would not describe the expected form.
func checkAddr(addr string) error {
	if name, ok := strings.CutPrefix(addr, unixPrefix); ok {
		if name == "" || name == "@" {
			return errors.New("unix: must be followed by a path")
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must be HOST:PORT")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q must be 0 to 65535", port)
	}
	return nil
}
