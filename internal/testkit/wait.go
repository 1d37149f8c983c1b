package testkit

import (
	"context"
	"testing"
	"time"
)

// Patience bounds each wait for an event that must come. It only has to exceed
// every delay of a busy machine: no verdict depends on its length.
const Patience = time.Minute

// pollInterval is the time between two looks at a condition.
const pollInterval = time.Millisecond

// Eventually polls cond until it returns true, and fails the test after
// Patience. It must be called from the test's own goroutine.
func Eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	if !Poll(Patience, cond) {
		t.Fatalf("after %v still waiting: %s", Patience, what)
	}
}

// Poll calls cond until it returns true, and reports false if it does not within
// limit. It may be called from any goroutine.
func Poll(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); !cond(); time.Sleep(pollInterval) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Receive returns the next value of ch, and fails the test after Patience.
func Receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(Patience):
		t.Fatalf("after %v still waiting: %s", Patience, what)
		panic("unreachable")
	}
}

// Context returns a context that ends with the test, or after Patience.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}
