package wheel

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// endOfTime is the last tick; every stream of operations ends there, and callbacks then set no more
// timers.
const endOfTime = math.MaxInt64

// model is a wheel with its reference: a plain map of deadlines.
type model struct {
	t         testing.TB
	wheel     Wheel[job]
	jobs      []*job
	deadlines map[int]int64 // By the id of the job; only the armed ones.
	now       int64
}

func newModel(t testing.TB) *model {
	m := &model{t: t, deadlines: make(map[int]int64)}
	for i := range 32 {
		m.jobs = append(m.jobs, newJob(i))
	}
	return m
}

// play runs a stream of operations: one byte for the operation, one for the job, one for the
// magnitude, eight for the amount.
func (m *model) play(ops []byte) {
	for len(ops) >= 11 {
		what, id := ops[0]%8, int(ops[1])%len(m.jobs)
		amount := int64(binary.LittleEndian.Uint64(ops[3:])>>1) >> (ops[2] % 63)
		ops = ops[11:]
		switch what {
		case 0, 1, 2, 3:
			m.schedule(id, m.now+amount)
		case 4:
			m.schedule(id, m.now-amount)
		case 5:
			m.cancel(id)
		case 6:
			m.advance(m.now + amount%100)
		case 7:
			m.advance(m.now + amount)
		}
		m.check()
	}
	m.advance(endOfTime)
	m.check()
}

func (m *model) schedule(id int, deadline int64) {
	if deadline < m.now-1<<62 {
		return // The sum has overflowed.
	}
	m.wheel.Schedule(&m.jobs[id].timer, deadline)
	m.deadlines[id] = max(deadline, m.now+1, 0)
}

func (m *model) cancel(id int) {
	_, armed := m.deadlines[id]
	if got := m.wheel.Cancel(&m.jobs[id].timer); got != armed {
		m.t.Fatalf("cancel of %d: %v, want %v", id, got, armed)
	}
	delete(m.deadlines, id)
}

// advance compares the fired timers, and their order, with the model. Each callback also meddles:
// it moves one job and cancels another, by a rule that depends on the ids alone.
func (m *model) advance(now int64) {
	if now < m.now || now > 1<<62 && now != endOfTime {
		return // The sum has overflowed, or the next one could.
	}
	m.now = now
	var last int64
	m.wheel.Advance(now, func(t *Timer[job]) {
		id := t.Owner.id
		deadline, armed := m.deadlines[id]
		if !armed || deadline > now || deadline < last {
			m.t.Fatalf("at %d after %d: fired %d with deadline %d, armed %v", now, last, id, deadline, armed)
		}
		last = deadline
		delete(m.deadlines, id)
		if t.Armed() {
			m.t.Fatalf("%d is armed while it fires", id)
		}
		switch {
		case now == endOfTime:
		case id%4 == 0:
			m.schedule(id, now+int64(id))
		case id%4 == 1:
			m.schedule((id+5)%len(m.jobs), now-3)
		case id%4 == 2:
			m.cancel((id + 7) % len(m.jobs))
		}
	})
	for id, deadline := range m.deadlines {
		if deadline <= now {
			m.t.Fatalf("at %d: %d with deadline %d didn't fire", now, id, deadline)
		}
	}
}

func (m *model) check() {
	if m.wheel.Len() != len(m.deadlines) {
		m.t.Fatalf("%d timers, want %d", m.wheel.Len(), len(m.deadlines))
	}
	earliest := int64(endOfTime)
	for id, j := range m.jobs {
		deadline, armed := m.deadlines[id]
		if j.timer.Armed() != armed {
			m.t.Fatalf("job %d: armed %v, want %v", id, j.timer.Armed(), armed)
		}
		if armed {
			earliest = min(earliest, deadline)
		}
	}
	tick, ok := m.wheel.Next()
	if ok != (len(m.deadlines) > 0) || ok && (tick > earliest || tick <= m.now) {
		m.t.Fatalf("at %d: next %d, %v; the earliest deadline is %d", m.now, tick, ok, earliest)
	}
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		ops := make([]byte, 11*400)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		// Keep most amounts small enough that time doesn't run out at once: the magnitude is a
		// shift to the right.
		for i := 2; i < len(ops); i += 11 {
			ops[i] = max(ops[i]%63, 20+ops[i]%30)
		}
		newModel(t).play(ops)
	}
}

func FuzzWheel(f *testing.F) {
	f.Add(slices.Concat([]byte{0, 1, 50}, make([]byte, 8), []byte{7, 0, 40, 255, 255, 255, 255, 255, 255, 255, 255}))
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 11*1000 {
			t.Skip("longer streams find nothing that shorter ones don't")
		}
		newModel(t).play(ops)
	})
}
