//go:build !poll_opt

package reactor

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// stage is a loop whose goroutine the test can hold in a call, and a substitute for it.
type stage struct {
	*Loop
	t    *testing.T
	held chan struct{} // a call is held
	free chan struct{} // lets it return
	log  chan string
}

func newStage(t *testing.T) *stage {
	l, err := Open(new(Table))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{l, t, make(chan struct{}), make(chan struct{}), make(chan string, 100)}
	done := make(chan error, 1)
	go func() { done <- l.RunRounds(s) }()
	t.Cleanup(func() {
		if err := errors.Join(l.Stop(), <-done); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (*stage) RoundBegins()    {}
func (*stage) RoundEnds() bool { return false }

// hold holds the loop's goroutine until the test calls release.
func (s *stage) hold() {
	s.held <- struct{}{}
	<-s.free
}

// substitute runs the loop on another goroutine while f runs.
func (s *stage) substitute(f func()) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Substitute() }()
	f()
	s.Recall()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
	s.Recalled()
}

func (s *stage) release() { s.free <- struct{}{} }

func (s *stage) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		if got := <-s.log; got != w {
			s.t.Errorf("got %s, want %s", got, w)
		}
	}
}

// note returns a handler that logs name.
func (s *stage) note(name string) handler { return func(Event) { s.log <- name } }

// task returns a task that does f and logs name.
func (s *stage) task(name string, f func()) (Task, any) {
	return func(any) error {
		if f != nil {
			f()
		}
		s.log <- name
		return nil
	}, nil
}

// TestSubstituteContinuesARound holds a loop in each kind of call. A substitute goes on
// where the loop was, and the loop where the substitute was.
func TestSubstituteContinuesARound(t *testing.T) {
	t.Run("task", func(t *testing.T) {
		s := newStage(t)
		_ = s.Trigger(s.task("a", func() {
			_ = s.Trigger(s.task("b", nil))
			s.Again(s.note("again"))
			s.hold()
		}))
		<-s.held
		s.substitute(func() { s.expect("b", "again") })
		s.release()
		s.expect("a")
		_ = s.Trigger(s.task("c", nil))
		s.expect("c")
	})
	t.Run("again", func(t *testing.T) {
		s := newStage(t)
		_ = s.Trigger(s.task("a", func() {
			s.Again(handler(func(Event) { s.hold(); s.log <- "held" }))
			s.Again(s.note("second"))
		}))
		s.expect("a")
		<-s.held
		s.substitute(func() { s.expect("second") })
		s.release()
		s.expect("held")
	})
	t.Run("event", func(t *testing.T) {
		s := newStage(t)
		fds, peers := make([]int, 3), make([]int, 3)
		conns := make([]Conn, 3)
		first := true
		_ = s.Trigger(s.task("registered", func() {
			for i := range fds {
				p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
				}
				fds[i], peers[i] = p[0], p[1]
				_, _ = unix.Write(peers[i], []byte{1}) // all are ready in the next poll
				conns[i] = Conn{FD: fds[i], Handler: handler(func(Event) {
					if first {
						first = false
						s.hold()
					}
					s.log <- "event"
				})}
				if err := s.Register(&conns[i]); err != nil {
					t.Error(err)
				}
			}
		}))
		s.expect("registered")
		<-s.held
		s.substitute(func() { s.expect("event", "event") })
		s.release()
		s.expect("event")
		_ = s.Trigger(s.task("closed", func() {
			for i := range fds {
				s.Unregister(&conns[i])
				Close(fds[i])
				Close(peers[i])
			}
		}))
		s.expect("closed")
	})
}

// TestRecalledSubstituteLeavesNothing recalls a substitute in the middle of its round: the
// loop handles what the substitute has left.
func TestRecalledSubstituteLeavesNothing(t *testing.T) {
	s := newStage(t)
	_ = s.Trigger(s.task("a", s.hold))
	<-s.held
	s.substitute(func() {
		_ = s.Trigger(s.task("b", func() {
			_ = s.Trigger(s.task("d", nil))
			s.Again(s.note("again"))
			s.Recall()
		}))
		_ = s.Trigger(s.task("c", nil))
		s.expect("b")
	})
	select {
	case got := <-s.log:
		t.Error("the recalled substitute did ", got)
	default:
	}
	s.release()
	s.expect("a")
	got := map[string]bool{<-s.log: true, <-s.log: true, <-s.log: true}
	if !got["c"] || !got["d"] || !got["again"] {
		t.Error(got)
	}
}

// TestSubstituteEndsWithTheLoop stops a loop while a substitute runs it.
func TestSubstituteEndsWithTheLoop(t *testing.T) {
	l, err := Open(new(Table))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{l, t, make(chan struct{}), make(chan struct{}), make(chan string, 1)}
	done := make(chan error, 1)
	go func() { done <- l.RunRounds(s) }()
	_ = s.Trigger(s.task("a", s.hold))
	<-s.held
	over := make(chan error, 1)
	go func() { over <- s.Substitute() }()
	if err := errors.Join(s.Stop(), <-over); err != nil {
		t.Error(err)
	}
	s.release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
