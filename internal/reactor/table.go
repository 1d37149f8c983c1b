package reactor

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	tablePageBits = 10
	tablePageSize = 1 << tablePageBits
	tablePages    = 1 << 14 // descriptors up to 16 Mi
)

// Table finds the Conn of a descriptor. All loops of an engine share one: a
// descriptor belongs to one loop at a time, so an entry costs 8 bytes however
// many loops there are. Only the page directory is ever contended, when a page
// is first used.
type Table struct {
	mu    sync.Mutex // guards making pages
	pages [tablePages]atomic.Pointer[tablePage]
}

type tablePage [tablePageSize]atomic.Pointer[Conn]

func (t *Table) get(fd int) *Conn {
	if page := t.pages[fd>>tablePageBits].Load(); page != nil {
		return page[fd&(tablePageSize-1)].Load()
	}
	return nil
}

func (t *Table) set(fd int, c *Conn) error {
	if fd < 0 || fd >= tablePages*tablePageSize {
		return fmt.Errorf("reactor: descriptor %d is outside the table", fd)
	}
	t.page(fd >> tablePageBits)[fd&(tablePageSize-1)].Store(c)
	return nil
}

func (t *Table) clear(fd int) {
	if page := t.pages[fd>>tablePageBits].Load(); page != nil {
		page[fd&(tablePageSize-1)].Store(nil)
	}
}

func (t *Table) page(i int) *tablePage {
	if p := t.pages[i].Load(); p != nil {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pages[i].Load()
	if p == nil {
		p = new(tablePage)
		t.pages[i].Store(p)
	}
	return p
}
