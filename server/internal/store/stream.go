package store

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// stream is a Stream in memory. One lock guards it and its consumers: a batch is one critical section, and requests are
// parsed and answered outside it.
type stream struct {
	memory    *Memory
	id        string
	options   StreamOptions // Name and the limits never change
	createdAt time.Time

	mu        sync.Mutex // guards what follows; held for arithmetic only, never while waiting
	gone      error      // why nothing works any more: deleted, or the store is closed
	log       log
	keys      map[string]*entry // newest version by key; nil on a stream that appends
	seq       int64
	ids       idSource
	consumers []consumer
}

// consumer is what a stream asks of its consumers. All methods but those of Consumer want the stream's lock held.
type consumer interface {
	Consumer
	identity() (id, name, filter string)
	// stored tells that entries were appended, lowest seq first.
	stored(entries []*entry)
	// lost tells that e, which some consumer holds, is dead.
	lost(e *entry)
	// changed is called when a change is complete: whoever waits may have something to receive now.
	changed()
	// view tells how the consumer stands to the newest message of a key; false when its filter leaves the key out.
	view(e *entry) (View, bool)
	// close ends the consumer and wakes everyone who waits.
	close(why error)
}

func newStream(m *Memory, o StreamOptions) *stream {
	s := &stream{memory: m, id: newUUID(), options: o, createdAt: time.Now(), ids: newIDSource()}
	if o.OneMessagePerKey {
		s.keys = map[string]*entry{}
	}
	return s
}

func (s *stream) ID() string { return s.id }

func (s *stream) Info() StreamInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return StreamInfo{
		StreamOptions: s.options, ID: s.id, InsertedAt: s.createdAt, UpdatedAt: s.createdAt,
		Messages: s.log.live, Consumers: len(s.consumers), Bytes: s.log.bytes,
	}
}

func (s *stream) Delete() error {
	if !s.memory.forget(s) {
		return ErrNoStream
	}
	s.close(ErrNoStream)
	return nil
}

// close ends the stream and wakes everyone who waits at one of its consumers.
func (s *stream) close(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return
	}
	s.gone = why
	for _, c := range s.consumers {
		if why == ErrNoStream {
			c.close(ErrNoConsumer)
		} else {
			c.close(why)
		}
	}
}

func (s *stream) Get(key string) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.newest(key)
	if e == nil {
		return Message{}, ErrNoMessage
	}
	return e.message(), nil
}

func (s *stream) newest(key string) *entry {
	if s.keys != nil {
		return s.keys[key]
	}
	return s.log.findLast(key)
}

func (s *stream) List(q ListQuery) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.list(q)
}

func (s *stream) States(key string) (Message, []ConsumerView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.newest(key)
	if e == nil {
		return Message{}, nil, ErrNoMessage
	}
	var views []ConsumerView
	for _, c := range s.consumers {
		if v, ok := c.view(e); ok {
			id, name, filter := c.identity()
			views = append(views, ConsumerView{id, name, filter, v})
		}
	}
	return e.message(), views, nil
}

func (s *stream) CreateConsumer(o ConsumerOptions) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return nil, s.gone
	}
	if s.find(o.Name) != nil {
		return nil, ErrNameTaken
	}
	c := s.newConsumer(o)
	s.consumers = append(s.consumers, c)
	return c, nil
}

func (s *stream) newConsumer(o ConsumerOptions) consumer {
	at := time.Now()
	info := ConsumerInfo{ConsumerOptions: o, ID: newUUID(), StreamID: s.id, InsertedAt: at, UpdatedAt: at}
	if s.memory.rows {
		return newRowConsumer(s, info)
	}
	return newLeaseConsumer(s, info)
}

func (s *stream) find(ref string) consumer {
	var named consumer
	for _, c := range s.consumers {
		id, name, _ := c.identity()
		if id == ref {
			return c
		}
		if name == ref {
			named = c
		}
	}
	return named
}

func (s *stream) Consumer(ref string) (Consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.find(ref); c != nil {
		return c, nil
	}
	return nil, ErrNoConsumer
}

func (s *stream) Consumers() []Consumer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Consumer, len(s.consumers))
	for i, c := range s.consumers {
		out[i] = c
	}
	return out
}

// removeLocked takes c out of the stream; false when somebody else has done so.
func (s *stream) removeLocked(c consumer) bool {
	i := slices.IndexFunc(s.consumers, func(o consumer) bool { return o == c })
	if i < 0 {
		return false
	}
	s.consumers = slices.Delete(s.consumers, i, i+1)
	c.close(ErrNoConsumer)
	return true
}

// clone gives a message strings of its own: the ones that come in are cut from one request's text, which a message that
// outlives its neighbours would keep in memory.
func (m Message) clone() Message {
	both := strings.Clone(m.Key + m.Data)
	m.Key, m.Data = both[:len(m.Key)], both[len(m.Key):]
	return m
}
