package store

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// stream is a Stream in memory. One lock guards it and its consumers: a batch is one critical section, and requests are
// parsed and answered outside it. Its exported methods are in locking.go. The methods here require the lock.
type stream struct {
	id        string
	dialect   *dialect
	options   StreamOptions
	createdAt time.Time
	seqs      *atomic.Int64      // the last seq that was taken; some dialects share it between streams
	forget    func(*stream) bool // removes the stream from its store; false when that was done before
	tables    *tables            // of the store

	mu        sync.Mutex // guards what follows and all consumers; locked in locking.go only, never while waiting
	log       log
	lastAt    int64     // time of the newest message: those of messages never go back
	newest    *keyIndex // nil on a stream that appends
	sent      successes
	ids       idSource
	consumers []*consumer
	ended     error // set when the stream is deleted or the store closed; what methods return from then on
}

func newStream(d *dialect, o StreamOptions, seqs *atomic.Int64, forget func(*stream) bool) *stream {
	s := &stream{
		id: newUUID(), dialect: d, options: o, createdAt: time.Now(), seqs: seqs, forget: forget,
		sent: newSuccesses(), ids: newIDSource(),
	}
	if o.OneMessagePerKey {
		s.newest = newKeyIndex()
	}
	return s
}

func (s *stream) info() StreamInfo {
	return StreamInfo{
		StreamOptions: s.options, ID: s.id, InsertedAt: s.createdAt, UpdatedAt: s.createdAt,
		Messages: s.log.live, Consumers: len(s.consumers), Bytes: s.log.bytes,
	}
}

// end ends the stream and its consumers. It wakes all receives that wait.
func (s *stream) end(err error) {
	if s.ended != nil {
		return
	}
	s.ended = err
	if err == ErrNoStream {
		err = ErrNoConsumer
	}
	for _, c := range s.consumers {
		s.tables.drop(consumerTable(s.options.Name, c.info.Name))
		c.end(err)
	}
}

// find returns the newest entry of a key, or nil.
func (s *stream) find(key string) *entry {
	if s.newest != nil {
		return s.newest.find(key)
	}
	return s.log.findLast(key)
}

func (s *stream) get(key string) (Message, error) {
	e := s.find(key)
	if e == nil {
		return Message{}, ErrNoMessage
	}
	return e.message(), nil
}

func (s *stream) states(key string) (Message, []ConsumerView, error) {
	e := s.find(key)
	if e == nil {
		return Message{}, nil, ErrNoMessage
	}
	var views []ConsumerView
	for _, c := range s.consumers {
		if v, ok := c.backlog.view(e); ok {
			views = append(views, ConsumerView{c.info.ID, c.info.Name, c.info.Filter, v})
		}
	}
	return e.message(), views, nil
}

// seqAt returns the seq of the first message that was stored at a time or later, or that of the next message.
func (s *stream) seqAt(at int64) int64 {
	all := s.log.from(0)
	if i := sort.Search(len(all), func(i int) bool { return all[i].updatedAt >= at }); i < len(all) {
		return all[i].seq
	}
	return s.seqs.Load() + 1
}

// createConsumer adds a consumer. leaseExpired is called by the timer of its waitqueue.
func (s *stream) createConsumer(o ConsumerOptions, leaseExpired func(*consumer)) (*consumer, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if slices.ContainsFunc(s.consumers, func(c *consumer) bool { return c.info.Name == o.Name }) {
		return nil, ErrNameTaken
	}
	if err := s.tables.create(consumerTable(s.options.Name, o.Name)); err != nil {
		return nil, err
	}
	o.Start = o.StartIn(s.seqs.Load())
	at := time.Now()
	c := &consumer{
		stream: s,
		info:   ConsumerInfo{ConsumerOptions: o, ID: newUUID(), StreamID: s.id, InsertedAt: at, UpdatedAt: at},
	}
	c.backlog = s.dialect.newBacklog(feed{
		log: &s.log, ids: s.ids, filter: NewFilter(o.Filter), limits: &c.info.ConsumerLimits, start: o.Start, createdAt: at,
	})
	c.waiting = waitqueue.New(c.backlog, func() { leaseExpired(c) })
	s.consumers = append(s.consumers, c)
	return c, nil
}

// findConsumer finds a consumer by id or name, or returns nil. An id is preferred to a name that looks like one.
func (s *stream) findConsumer(ref string) *consumer {
	var named *consumer
	for _, c := range s.consumers {
		if c.info.ID == ref {
			return c
		}
		if c.info.Name == ref {
			named = c
		}
	}
	return named
}

// removeConsumer ends and removes a consumer. It returns false when that was done before.
func (s *stream) removeConsumer(c *consumer) bool {
	i := slices.Index(s.consumers, c)
	if i < 0 {
		return false
	}
	s.consumers = slices.Delete(s.consumers, i, i+1)
	s.tables.drop(consumerTable(s.options.Name, c.info.Name))
	c.end(ErrNoConsumer)
	return true
}
