package quicbridge

import "slices"

// fewStreams is up to how many streams find searches the list instead of a map.
const fewStreams = 8

// find returns the open stream with that handle, or nil. Under c.mu.
func (c *conn) find(handle uint64) *stream {
	if c.byHandle != nil || handle == 0 {
		return c.byHandle[handle]
	}
	for _, st := range c.all {
		if st.handle == handle {
			return st
		}
	}
	return nil
}

// remember adds a stream that has a handle to byHandle, if find needs that. Under
// c.mu.
func (c *conn) remember(st *stream) {
	if c.byHandle != nil {
		c.byHandle[st.handle] = st
		return
	}
	if len(c.all) <= fewStreams {
		return
	}
	c.byHandle = make(map[uint64]*stream)
	for _, st := range c.all {
		if st.handle != 0 {
			c.byHandle[st.handle] = st
		}
	}
}

// forget drops a stream that both sides have finished. Under c.mu.
func (c *conn) forget(st *stream) {
	delete(c.byHandle, st.handle)
	c.all = without(c.all, st)
	if c.first == st {
		c.first = nil
	}
}

// without returns list, changed in place, without st.
func without(list []*stream, st *stream) []*stream {
	if i := slices.Index(list, st); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
