package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/clocks"
)

// streams are those of one run: names of its own, so that it disturbs nobody, with underscores, because the 2024 server
// takes no dashes.
type streams struct{ source, lines, dead string }

func newStreams() streams {
	run := "fanout_" + uuid.NewString()[:8]
	return streams{run, run + "_lines", run + "_dead"}
}

func (s streams) each(do func(name string) error) error {
	return errors.Join(do(s.source), do(s.lines), do(s.dead))
}

// branch is one of the ways: a consumer with a filter, and the pool that handles what it gets.
type branch struct {
	name, filter string
	matching     uint64 // records
	run          func(context.Context, *sequin.Subscriber) error
	consumer     string // its id
	sub          *sequin.Subscriber
}

// fanOut publishes all records and lets the three branches have them, until each has settled what matches its filter.
func fanOut(ctx context.Context, client *sequin.Client, all []clocks.Record, file string) (t table, err error) {
	s := newStreams()
	if err := s.each(func(name string) error {
		_, err := client.CreateStream(ctx, name, sequin.StreamOptions{})
		return err
	}); err != nil {
		return t, err
	}
	defer func() {
		// On a context of its own: the streams are removed after an interrupt too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, s.each(func(name string) error { return client.DeleteStream(ctx, name) }))
	}()

	lines, err := client.NewPublisher(s.lines, sequin.PublisherConfig{})
	if err != nil {
		return t, err
	}
	europe, err := createArchive(file)
	if err != nil {
		return t, err
	}
	asia := newLedger(s.dead)
	branches := []*branch{
		{name: "america", filter: "tz.america.>", run: func(ctx context.Context, sub *sequin.Subscriber) error {
			return sub.Pipe(ctx, lines, sequin.HandlerConfig{Workers: 4}, toLine)
		}},
		{name: "europe", filter: "tz.europe.>", run: europe.handle},
		{name: "asia", filter: "tz.asia.>", run: asia.handle},
	}
	err = runBranches(ctx, client, s.source, branches, all)
	err = errors.Join(err, lines.Close(ctx), europe.close())
	if err != nil {
		return t, err
	}
	return newTable(ctx, client, s, branches, all, europe, asia)
}

// runBranches publishes, and ends the branches once each is through.
func runBranches(ctx context.Context, client *sequin.Client, source string, branches []*branch, all []clocks.Record) error {
	for i, b := range branches {
		if err := b.subscribe(ctx, client, source, all); err != nil {
			for _, earlier := range branches[:i] {
				err = errors.Join(err, earlier.sub.Close(ctx))
			}
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(branches)+1)
	var pools, ends sync.WaitGroup
	for i, b := range branches {
		ends.Add(1)
		pools.Go(func() {
			if errs[i] = b.run(ctx, b.sub); errs[i] != nil {
				cancel() // the others have nothing to wait for
			}
		})
		go func() {
			defer ends.Done()
			b.await(ctx, client, source)
		}()
	}
	if errs[len(branches)] = publish(ctx, client, source, all); errs[len(branches)] != nil {
		cancel()
	}
	ends.Wait()
	interrupted := ctx.Err() // by the caller, or by a failure
	cancel()
	pools.Wait()
	return errors.Join(append(errs, interrupted)...)
}

func publish(ctx context.Context, client *sequin.Client, stream string, all []clocks.Record) error {
	pub, err := client.NewPublisher(stream, sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := pub.Send(ctx, r.Key, r.Data); err != nil {
			return errors.Join(err, pub.Close(ctx))
		}
	}
	return pub.Close(ctx)
}

// subscribe creates the branch's consumer and subscribes to it. Its window of unacked messages is large: for five minutes
// the 2024 server counts acked ones too.
func (b *branch) subscribe(ctx context.Context, client *sequin.Client, source string, all []clocks.Record) error {
	for _, r := range all {
		if b.takes(r.Key) {
			b.matching++
		}
	}
	consumer, err := client.CreateConsumer(ctx, source, b.name, b.filter, sequin.ConsumerOptions{MaxAckPending: 2 * len(all)})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", b.name, err)
	}
	b.consumer = consumer.ID
	b.sub, err = client.Subscribe(ctx, source, consumer.ID, sequin.SubscriberConfig{})
	return err
}

func (b *branch) takes(key string) bool {
	return strings.HasPrefix(key, strings.TrimSuffix(b.filter, ">"))
}

// await returns when the branch has acked as many messages as match and the server has none left for it, or ctx ends. A
// program that works for ever has no use for it.
func (b *branch) await(ctx context.Context, client *sequin.Client, source string) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		stats := b.sub.Stats()
		// An ack whose answer was lost may have arrived, and may not: the server knows.
		if stats.Acked+stats.UnknownOutcomes >= b.matching {
			left, err := client.PeekMessages(ctx, source, b.consumer, sequin.ListOptions{Limit: 1})
			if err == nil && len(left) == 0 {
				return
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}
