package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Memory is a Store that keeps everything in memory. It starts no goroutine. A timer runs only while a receive waits and
// a lease is out.
type Memory struct {
	id      string
	dialect *dialect
	tables  *tables
	seqs    atomic.Int64 // for dialects that share one sequence

	mu      sync.RWMutex // guards what follows; a stream's lock is never taken while it is held
	byID    map[string]*stream
	byName  map[string]*stream
	ordered []*stream // oldest first
	closed  bool
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store that behaves as Sequin is documented.
func NewMemory() *Memory { return newMemory(&documented) }

// NewAug2024 returns an empty store that behaves as the server of August 2024.
func NewAug2024() *Memory { return newMemory(&aug2024) }

func newMemory(d *dialect) *Memory {
	return &Memory{id: newUUID(), dialect: d, tables: d.newTables(), byID: map[string]*stream{}, byName: map[string]*stream{}}
}

// ID implements Store.
func (m *Memory) ID() string { return m.id }

// CreateStream implements Store.
func (m *Memory) CreateStream(_ context.Context, o StreamOptions) (Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.byName[o.Name] != nil {
		return nil, ErrNameTaken
	}
	if err := m.tables.create(streamTable(o.Name)); err != nil {
		return nil, err
	}
	s := newStream(m.dialect, m.dialect.options(o), m.dialect.sequence(&m.seqs), m.forget)
	s.tables = m.tables
	m.byID[s.id], m.byName[o.Name] = s, s
	m.ordered = append(m.ordered, s)
	return s, nil
}

// Stream implements Store. An id is preferred to a name that looks like one.
func (m *Memory) Stream(_ context.Context, ref string) (Stream, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if s := m.byID[ref]; s != nil {
		return s, nil
	}
	if s := m.byName[ref]; s != nil {
		return s, nil
	}
	return nil, ErrNoStream
}

// Streams implements Store.
func (m *Memory) Streams(context.Context) ([]Stream, error) {
	all := m.snapshot()
	out := make([]Stream, 0, len(all))
	for _, s := range slices.Backward(all) {
		out = append(out, s)
	}
	return out, nil
}

func (m *Memory) snapshot() []*stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.ordered)
}

// Consumer implements Store.
func (m *Memory) Consumer(ctx context.Context, ref string) (Consumer, error) {
	var found Consumer
	for _, s := range m.snapshot() {
		c, err := s.Consumer(ctx, ref)
		if err != nil {
			continue
		}
		if c.ID() == ref {
			return c, nil
		}
		if found != nil {
			return nil, ErrAmbiguous
		}
		found = c
	}
	if found == nil {
		return nil, ErrNoConsumer
	}
	return found, nil
}

// Probe implements Store.
func (m *Memory) Probe(context.Context) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return ErrClosed
	}
	return nil
}

// Close implements Store. It returns nil.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, s := range m.snapshot() {
		s.close()
	}
	return nil
}

// forget removes a stream. It returns false when that was done before.
func (m *Memory) forget(s *stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byID[s.id] != s {
		return false
	}
	delete(m.byID, s.id)
	delete(m.byName, s.options.Name)
	m.tables.drop(streamTable(s.options.Name))
	m.ordered = slices.DeleteFunc(m.ordered, func(o *stream) bool { return o == s })
	return true
}

// Extended implements Extended.
func (m *Memory) Extended() {}

// KeepsHeaders implements KeepsHeaders.
func (m *Memory) KeepsHeaders() {}
