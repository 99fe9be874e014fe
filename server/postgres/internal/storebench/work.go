package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/server/internal/store"
)

// contender can publish, receive and ack. Its methods may be called concurrently.
type contender interface {
	// publish stores messages. caller says who publishes: those with the same number are in one process.
	publish(ctx context.Context, caller int, messages []store.Message) error
	// receive leases up to n messages of a consumer. It may return none.
	receive(ctx context.Context, caller, consumer, n int) ([]store.ID, error)
	ack(ctx context.Context, caller, consumer int, ids []store.ID) error
	// settle gets the database into the state that it would have some time after a load, so that all begin alike.
	settle(ctx context.Context) error
	remove(ctx context.Context) error
}

const (
	batchSize  = 1000
	publishers = 4 // at once, in all
	receivers  = 4 // at once, of each consumer
	callers    = 64
)

// measure fills the stream if the work needs it, and does the work.
func measure(ctx context.Context, p contender, c cell) (r result, err error) {
	if err := prepare(ctx, p, c); err != nil {
		return r, err
	}
	deliveries := c.messages * c.consumers
	switch c.work {
	case workAppend:
		return timed(c.messages, func() error { return inBatches(ctx, p, fresh(c, 0, c.messages), publishers) })
	case workUpsert:
		return timed(c.messages, func() error { return inBatches(ctx, p, changed(c), 1) })
	case workReceive:
		return timed(deliveries, func() error { return receiveAll(ctx, p, c) })
	case workBoth:
		return timed(deliveries, func() error {
			return together(
				func() error { return inBatches(ctx, p, fresh(c, warmUp, c.messages), publishers) },
				func() error { return receiveAll(ctx, p, c) })
		})
	case workSend:
		return single(c.messages, func(caller, i int) (bool, error) {
			return true, p.publish(ctx, caller, fresh(c, i, 1))
		})
	case workReceiveOne:
		return single(c.messages, func(caller, _ int) (bool, error) {
			ids, err := p.receive(ctx, caller, 0, 1)
			if err != nil || len(ids) == 0 {
				return false, err
			}
			return true, p.ack(ctx, caller, 0, ids)
		})
	}
	return r, fmt.Errorf("there is no work %q", c.work)
}

// warmUp is how many messages are published and acked before both are measured at once.
const warmUp = 10 * batchSize

// prepare fills the stream with what the work needs.
func prepare(ctx context.Context, p contender, c cell) error {
	n := 0
	switch c.work {
	case workReceive, workReceiveOne:
		n = c.messages
	case workUpsert:
		n = c.keys
	case workBoth:
		n = warmUp
	}
	if err := inBatches(ctx, p, fresh(c, 0, n), publishers); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil || c.work != workBoth {
		return err
	}
	c.messages = warmUp
	return receiveAll(ctx, p, c)
}

func timed(n int, work func() error) (result, error) {
	began := time.Now()
	err := work()
	return result{PerSecond: float64(n) / time.Since(began).Seconds()}, err
}

// together runs functions at once.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, f := range all {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// inBatches publishes messages in batches, from several publishers that take turns.
func inBatches(ctx context.Context, p contender, messages []store.Message, publishers int) error {
	batches := slices.Collect(slices.Chunk(messages, batchSize))
	var next atomic.Int64
	all := make([]func() error, publishers)
	for caller := range all {
		all[caller] = func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(batches) {
					return nil
				}
				if err := p.publish(ctx, caller, batches[i]); err != nil {
					return err
				}
			}
		}
	}
	return together(all...)
}

// emptyPause is how long a receiver that got nothing waits. The 2024 server does not wait for messages.
const emptyPause = 2 * time.Millisecond

// receiveAll receives and acks all messages of all consumers.
func receiveAll(ctx context.Context, p contender, c cell) error {
	var all []func() error
	for consumer := range c.consumers {
		var acked atomic.Int64
		for receiver := range receivers {
			all = append(all, func() error {
				for acked.Load() < int64(c.messages) {
					ids, err := p.receive(ctx, receiver, consumer, batchSize)
					if err != nil {
						return err
					}
					if len(ids) == 0 {
						time.Sleep(emptyPause)
						continue
					}
					if err := p.ack(ctx, receiver, consumer, ids); err != nil {
						return err
					}
					acked.Add(int64(len(ids)))
				}
				return nil
			})
		}
	}
	return together(all...)
}

// single calls request with each number below n, from many callers, and times each call that had something to do.
func single(n int, request func(caller, i int) (done bool, err error)) (result, error) {
	var next atomic.Int64
	times := make([][]time.Duration, callers)
	all := make([]func() error, callers)
	for caller := range all {
		all[caller] = func() error {
			for {
				i := int(next.Add(1)) - 1
				for done := i >= n; !done; {
					began := time.Now()
					var err error
					if done, err = request(caller, i); err != nil {
						return err
					}
					if done {
						times[caller] = append(times[caller], time.Since(began))
					}
				}
				if i >= n {
					return nil
				}
			}
		}
	}
	r, err := timed(n, func() error { return together(all...) })
	sorted := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(sorted) > 0 {
		r.P50, r.P99 = sorted[len(sorted)/2], sorted[len(sorted)*99/100]
	}
	return r, err
}
