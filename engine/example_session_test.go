package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine"
)

// Work that a callback starts ends with the session.
func ExampleSession_Context() {
	ended := make(chan error)
	e, c := serveLines(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, _ *engine.Message) {
		ctx := s.Context()
		go func() { // a query of a database, for example
			<-ctx.Done()
			ended <- context.Cause(ctx)
		}()
	})})
	defer e.Close()
	fmt.Fprintln(c, "a long query")
	c.Close()
	fmt.Println(errors.Is(<-ended, engine.ErrPeerClosed))
	// Output: true
}

// While a session is paused, its peer is not read, and has to wait: nothing is dropped. So a
// handler can leave slow work to a goroutine without a queue that grows.
func ExampleSession_Pause() {
	e, c := serveLines(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		s.Pause()
		m = m.Clone() // to keep it after the callback
		go func() {
			defer s.Resume()
			_ = s.Reply(m, append([]byte("done: "), m.Payload...))
		}()
	})})
	defer e.Close()
	defer c.Close()
	answers := bufio.NewReader(c)
	for _, work := range []string{"one", "two"} {
		fmt.Fprintln(c, work)
		line, _ := answers.ReadString('\n')
		fmt.Print(line)
	}
	// Output:
	// done: one
	// done: two
}

// Hold keeps a session open for a later reply, although its peer has sent everything and
// has closed its side.
func ExampleSession_Hold() {
	finished := make(chan bool)
	e, c := serveLines(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		s.Hold()
		m = m.Clone()
		go func() {
			defer s.Release()
			<-finished
			_ = s.Reply(m, []byte("the result"))
		}()
	})})
	defer e.Close()
	defer c.Close()
	fmt.Fprintln(c, "a task")
	_ = c.CloseWrite()
	close(finished)
	answer, err := io.ReadAll(c)
	fmt.Printf("%q %v\n", answer, err)
	// Output: "the result\n" <nil>
}

// CloseWith writes the queued bytes, then closes. OnClose gets its reason.
func ExampleSession_CloseWith() {
	errQuit := errors.New("the user has quit")
	reasons := make(chan error, 1)
	e, c := serveLines(engine.Config{Handler: engine.HandlerFuncs{
		Message: func(s *engine.Session, m *engine.Message) {
			_ = s.Reply(m, []byte("bye"))
			s.CloseWith(errQuit)
			fmt.Println(s.Send([]byte("too late")))
		},
		Close: func(_ *engine.Session, reason error) { reasons <- reason },
	}})
	defer e.Close()
	fmt.Fprintln(c, "quit")
	answer, _ := io.ReadAll(c)
	c.Close()
	fmt.Printf("%s%v\n", answer, <-reasons)
	// Output:
	// the user has quit
	// bye
	// the user has quit
}

// Sessions iterates over all sessions, for example to say something to everybody.
func ExampleEngine_Sessions() {
	opened := make(chan bool)
	e, c := serveLines(engine.Config{Handler: engine.HandlerFuncs{Open: func(*engine.Session) { close(opened) }}})
	defer e.Close()
	<-opened
	news := engine.NewFrame(&engine.Message{Payload: []byte("closing in a minute")})
	for s := range e.Sessions() {
		_ = s.SendFrame(news)
		_ = s.Close()
	}
	text, _ := io.ReadAll(c)
	fmt.Print(string(text))
	c.Close()
	// Output: closing in a minute
}

// Retryable separates errors that another attempt may not have.
func ExampleRetryable() {
	fmt.Println(engine.Retryable(engine.ErrConnectionLost))
	fmt.Println(engine.Retryable(fmt.Errorf("%w: one megabyte at most", engine.ErrTooLarge)))
	// Output:
	// true
	// false
}
