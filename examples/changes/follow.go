package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
)

// Order is a row of the table.
type Order struct {
	ID       int    `json:"id"`
	Customer string `json:"customer"`
	Qty      int    `json:"qty"`
}

// follower copies the changes of a sink into a stream, and indexes the stream.
type follower struct {
	source, target *sequin.Client
	sink, stream   string
	index          *index
}

// run follows the sink until ctx ends.
func (f *follower) run(ctx context.Context) error {
	// The stream keeps the latest change of each row. A repeated change of a row has other data only if it is another change.
	if _, err := f.target.EnsureStream(ctx, f.stream, sequin.StreamOptions{OneMessagePerKey: true}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 2)
	go func() { done <- f.follow(ctx) }()
	go func() { done <- f.fill(ctx) }()
	first := <-done
	stop() // the other one has nothing to do any more
	return errors.Join(first, <-done)
}

// follow copies the changes of the sink into the stream. A change is acked once the stream has it. Changes of a row come one
// after the other, and the Publisher keeps their order.
func (f *follower) follow(ctx context.Context) (err error) {
	sub, err := f.source.SubscribeSink(ctx, f.sink, sequin.SinkConfig{})
	if err != nil {
		return err
	}
	pub, err := f.target.NewPublisher(f.stream, sequin.PublisherConfig{})
	if err != nil {
		return errors.Join(err, sub.Close(context.WithoutCancel(ctx)))
	}
	err = sub.Pipe(ctx, pub, sequin.HandlerConfig{Workers: 4}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
		if _, err := sequin.DecodeChange[Order](d); err != nil {
			return nil, err // the index could not read it either
		}
		return []sequin.Message{{Key: d.Key, Data: d.Data}}, nil
	})
	return errors.Join(err, pub.Close(context.WithoutCancel(ctx)))
}

// fill builds the index from the stream and keeps it up to date. The consumer is its own, so that it begins at the start of the
// stream: the index is in memory, and is empty at first.
func (f *follower) fill(ctx context.Context) error {
	name := "index-" + uuid.NewString()
	consumer, err := f.target.CreateConsumer(ctx, f.stream, name, ">", sequin.ConsumerOptions{})
	if err != nil {
		return err
	}
	defer f.target.DeleteConsumer(context.WithoutCancel(ctx), f.stream, consumer.ID)
	sub, err := f.target.Subscribe(ctx, f.stream, consumer.ID, sequin.SubscriberConfig{Pollers: 1})
	if err != nil {
		return err
	}
	return sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
		change, err := sequin.DecodeChange[Order](d)
		if err != nil {
			return fmt.Errorf("index %s: %w", d.Key, err)
		}
		f.index.apply(d, change)
		return nil
	})
}
