package postgres

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// places are the receives of a consumer that wait at this replica, first come first served. Before the first is called a
// look at the database finds that a message is available. While some wait a timer looks again: a notification may be lost,
// a lease or a delay may end.
type places struct {
	engine *engine

	mu      sync.Mutex // guards what follows
	waiting []*place
	called  *place // its receive is awaited
	looking bool
	again   bool // something changed during the look
	timer   *time.Timer
	closed  bool
}

// place is a store.Place.
type place struct {
	of    *places
	ready chan struct{} // has room for one
}

var _ store.Place = (*place)(nil)

func (p *places) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// join adds a place, unless max wait.
func (p *places) join(max int) (*place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= max {
		return nil, store.ErrTooManyWaiting
	}
	at := &place{p, make(chan struct{}, 1)}
	p.waiting = append(p.waiting, at)
	if p.closed {
		at.call()
	}
	p.look()
	return at, nil
}

func (at *place) call() {
	select {
	case at.ready <- struct{}{}:
	default:
	}
}

// changed looks whether a message is available.
func (p *places) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look()
}

// look starts a look. It requires the lock.
func (p *places) look() {
	if len(p.waiting) == 0 || p.called != nil || p.closed {
		return
	}
	if p.looking {
		p.again = true
		return
	}
	p.looking, p.again = true, false
	if !p.engine.st.spawn(p.ask) {
		p.looking = false
	}
}

// ask asks the engine, and calls the first place when a message is available or the consumer cannot be asked.
func (p *places) ask() {
	available := false
	var end int64
	r := p.engine.looking(&available)
	look := r.do
	r.do = func(t *transaction) error {
		err := look(t)
		end = 0
		if at, out := t.e.state.NextExpiry(); out {
			end = max(at-t.now, int64(time.Microsecond))
		}
		return err
	}
	err := p.engine.ask(p.engine.st.ctx, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking = false
	if len(p.waiting) == 0 {
		return
	}
	if available || err != nil {
		p.called = p.waiting[0]
		p.called.call()
		return
	}
	if p.again {
		p.look()
		return
	}
	p.lookIn(time.Duration(end))
}

// lookIn sets the timer. It requires the lock.
func (p *places) lookIn(end time.Duration) {
	every := p.engine.st.options.lookEvery
	wait := every - rand.N(every/6+1).Truncate(time.Microsecond) // not all replicas at once; the database counts microseconds
	if end > 0 {
		wait = min(wait, end)
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(wait, p.changed)
}

// leave removes a place. A turn that was not used passes to the next.
func (p *places) leave(at *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, at)
	if i < 0 {
		return
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if p.called == at {
		p.called = nil
	}
	if len(p.waiting) == 0 && p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.look()
}

// stay keeps a place that received nothing at the head.
func (p *places) stay(at *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.called == at {
		p.called = nil
	}
	p.look()
}

// close calls all places: the consumer is deleted, or the store closed.
func (p *places) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for _, at := range p.waiting {
		at.call()
	}
}

// Queue implements store.Consumer.
func (h *consumer) Queue(ctx context.Context) (store.Place, error) {
	if h.st.ctx.Err() != nil {
		return nil, store.ErrClosed
	}
	var maxWaiting int
	err := h.st.query(ctx, func(s *session) error {
		found, err := h.st.findConsumers(s, "where c.id = $1", h.row.id)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return store.ErrNoConsumer
		}
		if err := found[0].row.stream.mark().Err(); err != nil {
			return err
		}
		maxWaiting = found[0].row.MaxWaiting
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h.engine().places.join(maxWaiting)
}

func (at *place) Ready() <-chan struct{} { return at.ready }

func (at *place) Receive(ctx context.Context, n int, dst []store.Delivery) ([]store.Delivery, error) {
	e := at.of.engine
	r := e.receiving(n)
	if err := e.ask(ctx, r); err != nil {
		return dst, err
	}
	if len(r.deliveries) > 0 {
		at.of.leave(at)
	} else {
		at.of.stay(at)
	}
	return append(dst, r.deliveries...), nil
}

func (at *place) Leave() { at.of.leave(at) }
