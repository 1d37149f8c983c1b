package engine

import "testing"

// restoreMemory undoes at the end of the test the changes of the account by an engine
// without goroutines, which never closes, or by an outbox alone.
func restoreMemory(t *testing.T) {
	before := memory.total()
	t.Cleanup(func() { memory.add(int(before - memory.total())) })
}
