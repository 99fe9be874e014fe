package durable

import (
	"time"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/backlog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// consumer is the state of a consumer. The methods require the lock of its stream.
type consumer struct {
	stream   *stream
	cid      uint64 // its number in the stream's records
	salt     uint32 // of its ack ids
	info     store.ConsumerInfo
	filter   store.Filter
	restored seglog.Pos // as stream.restored
	created  seglog.Pos // the record that made it
	changed  seglog.Pos // the newest record that changed info

	backlog  *backlog.Backlog
	waiting  waitqueue.Queue
	window   window
	share    store.Share   // of the messages that match
	warned   bool          // that messages were left out, since there was room for half as many
	reading  chan struct{} // has room for one, who reads into the window without the lock
	measured measured
	ended    error // set when the consumer is deleted, or the store closed or failed
}

func newConsumer(s *stream, r *consumerRecord, pos seglog.Pos) *consumer {
	at := time.Unix(0, r.at)
	c := &consumer{
		stream: s, cid: r.cid, salt: saltOf(r.id), created: pos, changed: pos,
		info:    store.ConsumerInfo{ConsumerOptions: r.options, ID: r.id, StreamID: s.id, InsertedAt: at, UpdatedAt: at},
		filter:  store.NewFilter(r.options.Filter),
		backlog: backlog.New(s, limitsOf(r.options.ConsumerLimits)),
		window:  window{next: r.options.Start},
		reading: make(chan struct{}, 1),
	}
	c.backlog.StartAt(r.options.Start)
	c.waiting = waitqueue.New(c, c.leaseExpired)
	return c
}

func limitsOf(l store.ConsumerLimits) backlog.Limits {
	return backlog.Limits{AckWait: int64(l.AckWait), MaxAckPending: l.MaxAckPending, MaxDeliver: l.MaxDeliver}
}

func duration(nanoseconds int64) time.Duration { return time.Duration(nanoseconds) }

// applyUpdate changes the limits. Leases that have ended end by the limits they had.
func (c *consumer) applyUpdate(limits store.ConsumerLimits, now, at int64, pos seglog.Pos) {
	c.backlog.Expire(now)
	c.info.ConsumerLimits = limits
	c.info.UpdatedAt = time.Unix(0, at)
	c.backlog.SetLimits(limitsOf(limits))
	c.changed = pos
}

// apply applies a record of a replay. The consumer's number is read.
func (c *consumer) apply(rec seglog.Record, in *binary.Reader) {
	switch rec.Kind {
	case kindUpdateConsumer:
		now, at, limits := in.Int(), in.Int(), readLimits(in)
		if in.Err() == nil {
			c.applyUpdate(limits, now, at, rec.Pos)
		}
	case kindReceive:
		r := backlog.ReadReceive(in)
		if in.Err() == nil {
			c.backlog.Receive(&r, nil)
		}
	case kindSettle, kindDelay:
		r := readSettle(in, rec.Kind, c.cid)
		if in.Err() == nil {
			c.backlog.Settle(r.deliveries, r.how, r.now, r.delay)
		}
	case kindExtend:
		r := readSettle(in, rec.Kind, c.cid)
		if in.Err() == nil {
			c.backlog.Extend(r.deliveries, r.now, r.delay)
		}
	case kindExpire:
		c.backlog.Expire(in.Int())
	}
}

// record appends a record that starts with the consumer's number.
func (c *consumer) record(kind byte, body func([]byte) []byte) seglog.Pos {
	b := buffers.get()
	defer buffers.put(b)
	b.bytes = body(binary.AppendUint(b.bytes[:0], c.cid))
	return c.stream.record(kind, b.bytes)
}

// expire ends the leases and delays that have ended by now.
func (c *consumer) expire(now int64) {
	if at, out := c.backlog.NextExpiry(); !out || at > now {
		return
	}
	c.record(kindExpire, func(b []byte) []byte { return binary.AppendInt(b, now) })
	c.backlog.Expire(now)
}

// unchangeable returns why the consumer cannot be changed, or nil.
func (c *consumer) unchangeable() error {
	if c.ended != nil {
		return c.ended
	}
	return c.stream.mark.Err()
}

func (c *consumer) end(err error) {
	if c.ended == nil {
		c.ended = err
		c.window = window{}
		c.waiting.Close()
	}
}

// NextExpiry implements waitqueue.Source.
func (c *consumer) NextExpiry() (time.Time, bool) {
	at, ok := c.backlog.NextExpiry()
	if !ok {
		return time.Time{}, false
	}
	return c.stream.store.clock.monotonic(at), true
}

// Refresh implements waitqueue.Source. Of what is not read yet it says that it is available: the receive that is called
// reads it.
func (c *consumer) Refresh(now time.Time) (available bool) {
	c.expire(c.stream.store.clock.at(now))
	if c.ended != nil || c.backlog.Room() == 0 {
		return false
	}
	if c.backlog.Ready() > 0 || c.backlog.Seeks() > 0 {
		return true
	}
	return c.skipWaiting() || c.window.next <= c.stream.last
}
