package store

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Memory is the store that keeps everything in the process. It starts no goroutine; a timer runs only while a receive
// waits and a lease is out.
type Memory struct {
	// rows selects how consumers work: leases with an id of their own, or the rows of the server of August 2024.
	rows bool
	seq  atomic.Int64 // of all streams, with rows

	mu      sync.RWMutex // guards what follows; a stream's own lock is never taken inside it
	byID    map[string]*stream
	byName  map[string]*stream
	ordered []*stream // oldest first
	closed  bool
}

// NewMemory returns an empty store whose consumers follow the documentation.
func NewMemory() *Memory { return newMemory(false) }

// NewAug2024 returns an empty store that behaves as the server of August 2024: streams replace by key and know no
// options, a batch is stored last message first, a consumer keeps a row with a stable ack id for each key.
func NewAug2024() *Memory { return newMemory(true) }

func newMemory(rows bool) *Memory {
	return &Memory{rows: rows, byID: map[string]*stream{}, byName: map[string]*stream{}}
}

// CreateStream refuses a name that is in use with ErrNameTaken. The 2024 server also failed, with ErrNameCase, where
// two names differ in case only: its tables are named after streams, and such names fold into one.
func (m *Memory) CreateStream(o StreamOptions) (Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.byName[o.Name] != nil {
		return nil, ErrNameTaken
	}
	if m.rows {
		for name := range m.byName {
			if strings.EqualFold(name, o.Name) {
				return nil, ErrNameCase
			}
		}
		o = StreamOptions{Name: o.Name, OneMessagePerKey: true}
	}
	s := newStream(m, o)
	m.byID[s.id], m.byName[o.Name] = s, s
	m.ordered = append(m.ordered, s)
	return s, nil
}

// Stream prefers an id to a name that looks like one.
func (m *Memory) Stream(ref string) (Stream, error) {
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

func (m *Memory) Streams() []Stream {
	all := m.snapshot()
	out := make([]Stream, 0, len(all))
	for _, s := range slices.Backward(all) {
		out = append(out, s)
	}
	return out
}

func (m *Memory) snapshot() []*stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.ordered)
}

// Consumer looks through all streams: what the 2024 server does for receive, ack and nack.
func (m *Memory) Consumer(ref string) (Consumer, error) {
	var found Consumer
	for _, s := range m.snapshot() {
		c, err := s.Consumer(ref)
		if err != nil {
			continue
		}
		if c.Info().ID == ref {
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

func (m *Memory) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, s := range m.snapshot() {
		s.close(ErrClosed)
	}
}

func (m *Memory) forget(s *stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byID[s.id] != s {
		return false
	}
	delete(m.byID, s.id)
	delete(m.byName, s.options.Name)
	m.ordered = slices.DeleteFunc(m.ordered, func(o *stream) bool { return o == s })
	return true
}

// newUUID makes ids of streams and consumers.
func newUUID() string { return uuid.NewString() }

// now returns the wall clock in microseconds, the resolution of message times.
func now() int64 { return time.Now().UnixMicro() }
