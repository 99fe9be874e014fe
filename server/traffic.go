package server

import (
	"sync"
	"sync/atomic"

	"github.com/sequin-go/sequin/server/internal/store"
)

// StreamTraffic counts what requests of this Server have moved since it was made.
type StreamTraffic struct {
	Sent           int64 // messages of sends that were answered with success, those that changed nothing included
	SentBytes      int64 // of their keys, headers and data
	Delivered      int64 // messages in answers to receives, to all consumers together
	DeliveredBytes int64 // of their keys, headers and data
}

// ConsumerTraffic counts what requests of this Server have done since it was made.
type ConsumerTraffic struct {
	Deliveries   int64 // messages in answers to receives
	Redeliveries int64 // those of them that had been delivered before
	Acks         int64 // ack ids of requests that were answered with success, repeated and unknown ones included
	Nacks        int64 // likewise, without those of "undelivered" nacks
}

// traffic has a *streamCounter for each stream that was used, by its id.
type traffic struct{ streams sync.Map }

type streamCounter struct {
	sent, sentBytes, delivered, deliveredBytes atomic.Int64

	consumers sync.Map // a *consumerCounter for each that was used, by its id
}

type consumerCounter struct{ deliveries, redeliveries, acks, nacks atomic.Int64 }

// counter returns the counter of an id.
func counter[T any](all *sync.Map, id string) *T {
	if c, ok := all.Load(id); ok {
		return c.(*T)
	}
	c, _ := all.LoadOrStore(id, new(T))
	return c.(*T)
}

// sent counts the messages of a send.
func (t *traffic) sent(s store.Stream, messages []store.Message) {
	bytes := int64(0)
	for i := range messages {
		bytes += messages[i].Size()
	}
	c := counter[streamCounter](&t.streams, s.ID())
	c.sent.Add(int64(len(messages)))
	c.sentBytes.Add(bytes)
}

// delivered counts the messages of an answer.
func (t *traffic) delivered(consumer store.Consumer, got []store.Delivery) {
	if len(got) == 0 {
		return
	}
	again, bytes := int64(0), int64(0)
	for i := range got {
		bytes += got[i].Size()
		if got[i].Count > 1 {
			again++
		}
	}
	s := counter[streamCounter](&t.streams, consumer.StreamID())
	s.delivered.Add(int64(len(got)))
	s.deliveredBytes.Add(bytes)
	c := counter[consumerCounter](&s.consumers, consumer.ID())
	c.deliveries.Add(int64(len(got)))
	c.redeliveries.Add(again)
}

// settled counts the ids of an ack or a nack.
func (t *traffic) settled(consumer store.Consumer, how store.Settlement, ids int) {
	c := counter[consumerCounter](&counter[streamCounter](&t.streams, consumer.StreamID()).consumers, consumer.ID())
	switch how {
	case store.Ack:
		c.acks.Add(int64(ids))
	case store.Nack:
		c.nacks.Add(int64(ids))
	}
}

func (t *traffic) ofStream(id string) StreamTraffic {
	found, ok := t.streams.Load(id)
	if !ok {
		return StreamTraffic{}
	}
	c := found.(*streamCounter)
	return StreamTraffic{c.sent.Load(), c.sentBytes.Load(), c.delivered.Load(), c.deliveredBytes.Load()}
}

func (t *traffic) ofConsumer(stream, id string) ConsumerTraffic {
	s, ok := t.streams.Load(stream)
	if !ok {
		return ConsumerTraffic{}
	}
	found, ok := s.(*streamCounter).consumers.Load(id)
	if !ok {
		return ConsumerTraffic{}
	}
	c := found.(*consumerCounter)
	return ConsumerTraffic{c.deliveries.Load(), c.redeliveries.Load(), c.acks.Load(), c.nacks.Load()}
}

// forgetStream removes the counters of a stream that was deleted.
func (t *traffic) forgetStream(id string) { t.streams.Delete(id) }

// forgetConsumer removes the counters of a consumer that was deleted.
func (t *traffic) forgetConsumer(consumer store.Consumer) {
	if s, ok := t.streams.Load(consumer.StreamID()); ok {
		s.(*streamCounter).consumers.Delete(consumer.ID())
	}
}
