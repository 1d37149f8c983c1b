package wheel

// Timer is one timer of a [Wheel], 32 bytes on a 64-bit machine. Make it a field of its owner and
// set Owner to that; apart from Owner, the zero value is a timer that isn't armed. It must not be
// copied or overwritten while armed.
type Timer[T any] struct {
	_ noCopy

	// Owner is the value that the timer belongs to, for the callback of Advance; the wheel doesn't
	// use it.
	Owner *T

	deadline uint64     // In ticks; meaningful while armed.
	next     *Timer[T]  // The next timer in the same list; nil in the last.
	link     **Timer[T] // The pointer that points to this timer: the list's head or another's next. Nil if not armed.
}

// Armed reports whether the timer waits to fire. Like the methods of its wheel, call it from the
// wheel's goroutine only.
func (t *Timer[T]) Armed() bool { return t.link != nil }

// Deadline returns the tick at which the timer, which must be armed, will fire.
func (t *Timer[T]) Deadline() int64 { return int64(t.deadline) }

// push puts t, which must not be armed, at the front of a list.
func (t *Timer[T]) push(head **Timer[T]) {
	t.next = *head
	if t.next != nil {
		t.next.link = &t.next
	}
	t.link = head
	*head = t
}

// unlink removes t, which must be armed, from its list. It doesn't need the list's head.
func (t *Timer[T]) unlink() {
	*t.link = t.next
	if t.next != nil {
		t.next.link = t.link
	}
	t.next, t.link = nil, nil
}

// noCopy makes go vet report copies of the struct of which it is a field. It must not be the last
// field, where it would take up space.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
