//go:build !poll_opt

package reactor

import (
	"errors"
	"slices"
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
func (*stage) MaySleep() bool  { return true }
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
		_ = s.Trigger(s.task("", func() { s.Again(handler(func(Event) { s.hold() })) }))
		s.expect("")
		<-s.held
		_ = s.Trigger(s.task("a", func() {
			s.Again(s.note("again"))
			s.hold()
		}))
		_ = s.Trigger(s.task("b", nil)) // the same wake-up is for both
		s.release()
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
		first := true
		_ = s.Trigger(s.task("ready", func() {
			s.ready(3, func() {
				if first {
					first = false
					s.hold()
				}
				s.log <- "event"
			})
		}))
		s.expect("ready")
		<-s.held
		s.substitute(func() { s.expect("event", "event") })
		s.release()
		s.expect("event")
	})
}

// ready registers n sockets that have input, so that the next poll reports them all, with
// this handler. To be called on the loop.
func (s *stage) ready(n int, h func()) {
	for range n {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			s.t.Error(err)
			return
		}
		_, _ = unix.Write(p[1], []byte{1})
		c := &Conn{FD: p[0], Handler: handler(func(Event) { h() })}
		if err := s.Register(c); err != nil {
			s.t.Error(err)
		}
		s.t.Cleanup(func() { // before the loop is stopped
			on(s.t, s.Loop, func() {
				s.Unregister(c)
				Close(p[0])
				Close(p[1])
			})
		})
	}
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
	s.expectAll("c", "d", "again")

	_ = s.Trigger(s.task("a", s.hold))
	<-s.held
	first := true
	s.substitute(func() {
		_ = s.Trigger(s.task("ready", func() {
			s.ready(2, func() {
				if first {
					first = false
					s.Recall()
				}
				s.log <- "event"
			})
		}))
		s.expect("ready", "event")
	})
	s.release()
	s.expectAll("a", "event")
}

// expectAll is expect in any order.
func (s *stage) expectAll(want ...string) {
	s.t.Helper()
	got := make([]string, len(want))
	for i := range got {
		got[i] = <-s.log
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("got %v, want %v", got, want)
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
