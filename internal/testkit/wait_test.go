package testkit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

func TestEventuallyReturnsOnceTheConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		testkit.Eventually(t, func() bool { return time.Since(begin) >= time.Second }, "a second")
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestPollGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if testkit.Poll(time.Second, func() bool { return false }) {
			t.Error("a false condition was reported as true")
		}
		if took := time.Since(begin); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestReceive(t *testing.T) {
	ch := make(chan int, 1)
	ch <- 7
	if v := testkit.Receive(t, ch, "a number"); v != 7 {
		t.Errorf("got %d", v)
	}
}
