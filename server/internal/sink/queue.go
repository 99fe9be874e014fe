// Package sink is the queue of one sink: changes of rows that are delivered, settled and redelivered.
//
// Of each row at most one change is outstanding at a time, and its changes are delivered in the order of their commits. An ack
// id belongs to a change and survives redelivery. The queue starts no goroutine and sets no timer: leases that have ended are
// noticed at the next receive.
package sink

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// recent is how long a restart knows a change as acked too late: it delivers it again. The real server delivered changes again
// that were acked seconds before, and none that was acked 20 s before.
const recent = 10 * time.Second

// ID is an ack id.
type ID = uuid.UUID

// Change is what the queue holds of a change of a row.
type Change struct {
	Row  string // identifies the row
	Body []byte // the JSON of the change; not modified
}

// Delivery is a change that was delivered.
type Delivery struct {
	ID   ID
	Body []byte
}

// State counts what a queue holds.
type State struct {
	Available   int // changes that a receive could get now
	Blocked     int // changes that wait for an earlier one of their row
	Outstanding int // changes that are delivered, and neither settled nor expired
}

// Queue is the queue of a sink. Its methods may be called concurrently.
type Queue struct {
	ackWait time.Duration

	mu      sync.Mutex
	next    int64
	rows    map[string][]*entry // those that are not acked, in the order of their commits
	ids     map[ID]*entry
	ready   entries // the first of each row that is not outstanding
	leases  []lease // in the order of their ends; some have been settled
	out     int     // leases that count
	acked   []*entry
	changed chan struct{} // closed when something becomes available
}

type entry struct {
	Change
	id    ID
	seq   int64
	until time.Time // the end of its lease; zero if it is not outstanding
	acked time.Time
}

type lease struct {
	entry *entry
	until time.Time
}

// New returns an empty queue.
func New(ackWait time.Duration) *Queue {
	return &Queue{ackWait: ackWait, rows: map[string][]*entry{}, ids: map[ID]*entry{}, changed: make(chan struct{})}
}

// Add adds changes in the order of their commits.
func (q *Queue) Add(changes []Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range changes {
		q.next++
		q.add(&entry{Change: c, id: uuid.New(), seq: q.next})
	}
	q.wake()
}

func (q *Queue) add(e *entry) {
	q.ids[e.id] = e
	q.rows[e.Row] = append(q.rows[e.Row], e)
	if len(q.rows[e.Row]) == 1 {
		heap.Push(&q.ready, e)
	}
}

func (q *Queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Receive delivers up to n changes, those that were committed first. If there are none and nothing is outstanding, changed is
// closed at the next change of the queue. While something is outstanding it is nil: the real server does not wait then.
func (q *Queue) Receive(now time.Time, n int) (got []Delivery, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	for len(got) < n && len(q.ready) > 0 {
		e := heap.Pop(&q.ready).(*entry)
		e.until = now.Add(q.ackWait)
		q.leases = append(q.leases, lease{e, e.until})
		q.out++
		got = append(got, Delivery{e.id, e.Body})
	}
	if q.out == 0 {
		return nil, q.changed
	}
	return got, nil
}

// expire makes the changes available whose leases have ended.
func (q *Queue) expire(now time.Time) {
	i := 0
	for ; i < len(q.leases); i++ {
		l := q.leases[i]
		if !l.entry.until.Equal(l.until) {
			continue // settled, and perhaps delivered again
		}
		if now.Before(l.until) {
			break
		}
		q.release(l.entry)
	}
	clear(q.leases[:i])
	q.leases = q.leases[i:]
}

func (q *Queue) release(e *entry) {
	e.until = time.Time{}
	q.out--
	heap.Push(&q.ready, e)
}

// Ack removes changes, also those that are not outstanding. It ignores unknown ids.
func (q *Queue) Ack(now time.Time, ids []ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if e := q.ids[id]; e != nil {
			q.ack(now, e)
		}
	}
	old := slices.IndexFunc(q.acked, func(e *entry) bool { return now.Sub(e.acked) <= recent })
	if old < 0 {
		old = len(q.acked)
	}
	clear(q.acked[:old])
	q.acked = q.acked[old:]
	q.wake()
}

func (q *Queue) ack(now time.Time, e *entry) {
	delete(q.ids, e.id)
	e.acked = now
	q.acked = append(q.acked, e)
	if e.until.IsZero() {
		q.ready.remove(e)
	} else {
		e.until = time.Time{}
		q.out--
	}
	row := q.rows[e.Row][1:] // an id is known from the first delivery on, and only the first of a row is delivered
	if len(row) == 0 {
		delete(q.rows, e.Row)
		return
	}
	q.rows[e.Row] = row
	heap.Push(&q.ready, row[0])
}

// Nack makes changes available. It ignores ids that are unknown or not outstanding.
func (q *Queue) Nack(ids []ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if e := q.ids[id]; e != nil && !e.until.IsZero() {
			q.release(e)
		}
	}
	q.wake()
}

// Restart does what a restart of the server does: each change gets a new ack id, those that are outstanding become available,
// and those that were acked in the last seconds are delivered again.
func (q *Queue) Restart(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*entry
	for _, e := range q.acked {
		if now.Sub(e.acked) <= recent {
			all = append(all, e)
		}
	}
	for _, row := range q.rows {
		all = append(all, row...)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	q.rows, q.ids, q.ready, q.leases, q.out, q.acked = map[string][]*entry{}, map[ID]*entry{}, nil, nil, 0, nil
	for _, e := range all {
		q.add(&entry{Change: e.Change, id: uuid.New(), seq: e.seq})
	}
	q.wake()
}

// State counts what the queue holds.
func (q *Queue) State(now time.Time) State {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	s := State{Available: len(q.ready), Outstanding: q.out}
	s.Blocked = len(q.ids) - s.Available - s.Outstanding
	return s
}

// entries is a heap by the order of the commits.
type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h entries) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *entries) Push(x any)        { *h = append(*h, x.(*entry)) }

func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

func (h *entries) remove(e *entry) {
	if i := slices.Index(*h, e); i >= 0 {
		heap.Remove(h, i)
	}
}
