package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/engine"
)

// handoverEnv is set for a process that succeeds another one. Its value is the
// descriptors of the listening socket and of the pipe for the ready message.
const handoverEnv = "MILLRACE_HANDOVER"

const (
	successorPatience = 30 * time.Second // for a successor to be ready
	goodbyePatience   = 3 * time.Second  // to close the QUIC sessions
	drainPoll         = 20 * time.Millisecond
	readyWord         = "ready"

	// Where os/exec puts the first two of ExtraFiles.
	handoverListenerFD = 3
	handoverReadyFD    = 4
)

// inheritance is the descriptors that this process got from its parent.
type inheritance struct {
	listener *os.File // nil if it binds its own
	ready    *os.File // to the predecessor; nil if there is none; closed after the ready message
}

// inherit takes the descriptors that a predecessor or systemd passed, and unsets the
// variables, so that no child uses them again.
func inherit() (in inheritance, err error) {
	if v := os.Getenv(handoverEnv); v != "" {
		_ = os.Unsetenv(handoverEnv) // it can't fail for a name like this
		if v != handoverValue() {
			return in, fmt.Errorf("%s=%q makes no sense", handoverEnv, v)
		}
		syscall.CloseOnExec(handoverListenerFD)
		syscall.CloseOnExec(handoverReadyFD)
		in.listener = os.NewFile(handoverListenerFD, "handed-over listener")
		in.ready = os.NewFile(handoverReadyFD, "ready pipe")
		return in, nil
	}
	files, err := engine.ActivationFiles()
	if err != nil || len(files) == 0 {
		return in, err
	}
	if len(files) > 1 {
		for _, f := range files {
			f.Close()
		}
		return in, fmt.Errorf("systemd passed %d sockets, and one is served", len(files))
	}
	in.listener = files[0]
	return in, nil
}

func handoverValue() string {
	return strconv.Itoa(handoverListenerFD) + "," + strconv.Itoa(handoverReadyFD)
}

func (in *inheritance) close() {
	for _, f := range []*os.File{in.listener, in.ready} {
		if f != nil {
			f.Close()
		}
	}
}

// handedOver reports whether a predecessor waits for this process to serve.
func (in *inheritance) handedOver() bool { return in.ready != nil }

// sayReady sends the ready message to the predecessor. A predecessor that has ended
// doesn't need it.
func (in *inheritance) sayReady() {
	if in.ready != nil {
		_, _ = in.ready.WriteString(readyWord)
	}
}

// startSuccessor starts the program at this program's path again, with the same
// arguments, passes the listener to it, and returns when it serves.
func startSuccessor(ctx context.Context, l *engine.Listener, logger *slog.Logger) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{socket, theirs}
	cmd.Env = append(os.Environ(), handoverEnv+"="+handoverValue())
	err = cmd.Start()
	theirs.Close() // so that only the successor holds that end
	if err != nil {
		return err
	}
	if err := awaitReady(ctx, ready); err != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		return errors.Join(err, cmd.Wait())
	}
	logger.Info("the successor serves", "pid", cmd.Process.Pid)
	go func() { _ = cmd.Wait() }() // avoids a zombie if it ends first
	return nil
}

// awaitReady waits for the ready message of a successor.
func awaitReady(ctx context.Context, pipe *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, successorPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Unix(1, 0)) })()
	word := make([]byte, len(readyWord))
	n, err := pipe.Read(word)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the successor isn't ready: %w", ctx.Err())
	case err != nil || !strings.HasPrefix(readyWord, string(word[:n])):
		return errors.New("the successor ended before it was ready")
	}
	return nil
}

// retire stops accepting, so that the successor gets new connections. It returns when the
// last session has ended, after opts.drainTimeout, or when ctx ends.
func (s *server) retire(ctx context.Context) {
	_ = s.stream.SetUnlinkOnClose(false) // it fails only for true
	_ = s.stream.Close()
	<-s.stream.Done() // otherwise a connection could be accepted and then lost
	// QUIC's port can't be shared: the sooner it is free the better.
	if s.quic != nil {
		limit, cancel := context.WithTimeout(ctx, goodbyePatience)
		if err := s.quic.ReleaseTransports(limit); err != nil {
			s.logger.Warn("QUIC sessions were dropped", "error", err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.drainTimeout)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for s.engine.Stats().Active > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.logger.Info("sessions are left", "count", s.engine.Stats().Active)
			return
		}
	}
}
