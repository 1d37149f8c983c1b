package engine

import (
	"sync"
	"sync/atomic"
)

// The fields of an ID, from the top: 8 bits of core, 32 of generation, 24 of slot.
const (
	idSlotBits = 24
	idGenBits  = 32

	slotPageBits = 12
	slotPageSize = 1 << slotPageBits
	slotPages    = 1 << (idSlotBits - slotPageBits)
)

func makeID(core int, gen, slot uint32) ID {
	return ID(core)<<(idSlotBits+idGenBits) | ID(gen)<<idSlotBits | ID(slot)
}

func (id ID) core() int    { return int(id >> (idSlotBits + idGenBits)) }
func (id ID) slot() uint32 { return uint32(id) & (1<<idSlotBits - 1) }

// slots is a core's table of sessions. A lookup is an index and a compare, from any
// goroutine and without a lock. A slot that is used again has another generation, so
// a lookup of an old ID returns nil.
type slots struct {
	mu    sync.Mutex // guards adding and removing
	free  []uint32   // slots that may be used again
	next  uint32     // slots from here on were never used
	pages [slotPages]atomic.Pointer[slotPage]
}

type slotPage [slotPageSize]slot

type slot struct {
	session atomic.Pointer[Session]
	gen     uint32 // guarded by slots.mu
}

// add gives s a slot and its ID. It reports false if all 2^24 slots are in use.
func (t *slots) add(core int, s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var i uint32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else if t.next < slotPages*slotPageSize {
		i = t.next
		t.next++
		if t.pages[i>>slotPageBits].Load() == nil {
			t.pages[i>>slotPageBits].Store(new(slotPage))
		}
	} else {
		return false
	}
	sl := &t.pages[i>>slotPageBits].Load()[i&(slotPageSize-1)]
	sl.gen++
	if sl.gen == 0 {
		sl.gen = 1 // ID 0 is no session
	}
	s.id = makeID(core, sl.gen, i)
	sl.session.Store(s)
	return true
}

// get returns the session with that ID, or nil.
func (t *slots) get(id ID) *Session {
	i := id.slot()
	page := t.pages[i>>slotPageBits].Load()
	if page == nil {
		return nil
	}
	if s := page[i&(slotPageSize-1)].session.Load(); s != nil && s.id == id {
		return s
	}
	return nil
}

// remove frees the slot of id.
func (t *slots) remove(id ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := id.slot()
	t.pages[i>>slotPageBits].Load()[i&(slotPageSize-1)].session.Store(nil)
	t.free = append(t.free, i)
}

// all calls f for every session, until f returns false. Sessions that begin or end
// meanwhile may be missed or seen.
func (t *slots) all(f func(*Session) bool) bool {
	for p := range t.pages {
		page := t.pages[p].Load()
		if page == nil {
			break // pages are made in order
		}
		for i := range page {
			if s := page[i].session.Load(); s != nil && !f(s) {
				return false
			}
		}
	}
	return true
}
