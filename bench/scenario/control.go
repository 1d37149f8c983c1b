package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"
)

// A child is a process of this very program in another role. It reads commands
// on its stdin and answers each on its stdout, a line of JSON each; its first
// line, without a command, means that it is ready. The end of its stdin ends it,
// so it never outlives its parent.

// childMark is the first argument of a child; its role and settings follow.
const childMark = "internal-child"

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 60 * time.Second // the kernel takes seconds to drop 20,000 sockets of a busy machine
	maxLine      = 1 << 20          // bytes of a command or answer
)

type command struct {
	Do   string          `json:"do"`
	Args json.RawMessage `json:"args,omitempty"`
}

type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// An action answers one command. The context ends with the parent.
type action func(ctx context.Context, args json.RawMessage) (any, error)

// act makes an action of a function with typed arguments.
func act[T any](f func(ctx context.Context, args T) (any, error)) action {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var args T
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, err
			}
		}
		return f(ctx, args)
	}
}

// A role is the work of a child. It returns the child's ready message, its commands, and
// a function that ends it.
type role func(settings json.RawMessage) (ready any, actions map[string]action, end func(), err error)

func roles() map[string]role {
	return map[string]role{
		"server": serverRole,
		"rawnet": rawNetRole,
		"fleet":  fleetRole,
	}
}

// runAsChild runs this process as a child if args begin with childMark.
func runAsChild(args []string) (code int, ok bool) {
	if len(args) != 3 || args[0] != childMark {
		return 0, false
	}
	// Ctrl-C reaches every process of the terminal; the parent decides.
	signal.Ignore(os.Interrupt)
	start := roles()[args[1]]
	if start == nil {
		fmt.Fprintf(os.Stderr, "scenario: no role %q\n", args[1])
		return 2, true
	}
	ready, actions, end, err := start(json.RawMessage(args[2]))
	if err != nil {
		_ = writeAnswer(os.Stdout, nil, err) // the exit code reports it too
		return 1, true
	}
	defer end()
	if err := obey(os.Stdin, os.Stdout, ready, actions); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		return 1, true
	}
	return 0, true
}

// obey answers commands until in ends.
func obey(in io.Reader, out io.Writer, ready any, actions map[string]action) error {
	if err := writeAnswer(out, ready, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines := make(chan []byte)
	var readErr error
	go func() {
		// A separate goroutine notices the parent's end during an action.
		defer close(lines)
		defer cancel()
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			lines <- append([]byte(nil), scanner.Bytes()...)
		}
		readErr = scanner.Err()
	}()
	for line := range lines {
		var c command
		var result any
		err := json.Unmarshal(line, &c)
		if err == nil {
			if do := actions[c.Do]; do != nil {
				result, err = do(ctx, c.Args)
			} else {
				err = fmt.Errorf("no command %q", c.Do)
			}
		}
		if err := writeAnswer(out, result, err); err != nil {
			return err
		}
	}
	return readErr
}

func writeAnswer(out io.Writer, result any, failure error) error {
	var a answer
	if failure != nil {
		a.Error = failure.Error()
	} else {
		b, err := json.Marshal(result)
		if err != nil {
			return err
		}
		a.Result = b
	}
	return json.NewEncoder(out).Encode(a)
}

// A child is a running child process, as its parent sees it. One goroutine at a
// time may ask it.
type child struct {
	name string // for errors
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *os.File
	scan *bufio.Scanner
	stop func() error // ends the process and waits; later calls return the same
}

// startChild starts a child and returns its ready message.
func startChild[T any](ctx context.Context, name, role string, settings any) (c *child, ready T, err error) {
	config, err := json.Marshal(settings)
	if err != nil {
		return nil, ready, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, ready, err
	}
	out, outWriter, err := os.Pipe()
	if err != nil {
		return nil, ready, err
	}
	defer outWriter.Close()
	cmd := exec.Command(self, childMark, role, string(config))
	cmd.Stdout, cmd.Stderr = outWriter, os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		out.Close()
		return nil, ready, fmt.Errorf("%s: %w", name, err)
	}
	c = &child{name: name, cmd: cmd, in: in, out: out, scan: bufio.NewScanner(out)}
	c.scan.Buffer(nil, maxLine)
	c.stop = sync.OnceValue(c.end)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.read(ctx, &ready); err != nil {
		return nil, ready, errors.Join(err, c.stop())
	}
	return c, ready, nil
}

// ask sends a command and waits for its answer, or for ctx. After an error of
// ctx only stop may be called.
func ask[T any](ctx context.Context, c *child, do string, args any) (result T, err error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return result, err
	}
	line, err := json.Marshal(command{Do: do, Args: raw})
	if err != nil {
		return result, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return result, fmt.Errorf("%s has ended: %w", c.name, err)
	}
	return result, c.read(ctx, &result)
}

// read takes the next answer.
func (c *child) read(ctx context.Context, result any) error {
	interrupt := context.AfterFunc(ctx, func() {
		_ = c.out.SetReadDeadline(time.Now()) // if a pipe has no deadlines, the child is ended soon anyway
	})
	defer interrupt()
	if !c.scan.Scan() {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
		}
		if err := c.scan.Err(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		return fmt.Errorf("%s has ended: %w", c.name, io.ErrUnexpectedEOF)
	}
	var a answer
	if err := json.Unmarshal(c.scan.Bytes(), &a); err != nil {
		return fmt.Errorf("%s said %q: %w", c.name, c.scan.Text(), err)
	}
	if a.Error != "" {
		return fmt.Errorf("%s: %s", c.name, a.Error)
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("%s said %q: %w", c.name, c.scan.Text(), err)
	}
	return nil
}

// end lets the process end by itself, and kills it if it takes too long.
func (c *child) end() error {
	_ = c.in.Close() // it may have ended already
	defer c.out.Close()
	killer := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer killer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }
