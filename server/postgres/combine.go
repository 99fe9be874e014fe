package postgres

import "sync"

// A combiner gathers what arrives while a transaction is under way, for the next one. An idle combiner has no goroutine.
type combiner[T any] struct {
	mu      sync.Mutex // guards what follows
	waiting []T
	running bool
}

// add adds an item. It returns true when the caller must start a goroutine that takes.
func (c *combiner[T]) add(item T) (start bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, item)
	start = !c.running
	c.running = true
	return start
}

// take returns the first items, as many as fits says. When there are none it returns nil, and the goroutine must end.
func (c *combiner[T]) take(fits func(all []T) int) []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.running, c.waiting = false, nil
		return nil
	}
	n := fits(c.waiting)
	taken := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	return taken
}

// registry holds what a replica knows of each stream, or of each consumer.
type registry[T any] struct {
	mu   sync.Mutex // guards byID
	byID map[int64]T
}

func (r *registry[T]) init() { r.byID = map[int64]T{} }

// get returns the entry of id, which it makes if there is none.
func (r *registry[T]) get(id int64, make func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.byID[id]
	if !ok {
		v = make()
		r.byID[id] = v
	}
	return v
}

func (r *registry[T]) remove(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

func (r *registry[T]) all() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]T, 0, len(r.byID))
	for _, v := range r.byID {
		all = append(all, v)
	}
	return all
}
