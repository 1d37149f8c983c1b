package engine

// AccountedMemory returns the bytes in the process's account.
func AccountedMemory() int64 { return memory.total() }
