package main

import (
	"cmp"
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

// streams are the names of the streams of one run. They are new, so that a run disturbs no other. They have underscores,
// because the 2024 server accepts no dashes.
type streams struct{ source, lines, dead string }

func newStreams() streams {
	run := "fanout_" + uuid.NewString()[:8]
	return streams{run, run + "_lines", run + "_dead"}
}

// each calls do for each stream until it fails: what has failed for one would fail for the others, too.
func (s streams) each(do func(name string) error) error {
	for _, name := range []string{s.source, s.lines, s.dead} {
		if err := do(name); err != nil {
			return err
		}
	}
	return nil
}

// branch is one of the three ways: a consumer with a filter, and the handlers of its messages.
type branch struct {
	name, filter string
	matching     uint64 // number of records that match the filter
	run          func(context.Context, *sequin.Subscriber) error
	consumer     string // the id
	sub          *sequin.Subscriber
}

// fanOut publishes all records and runs the three branches until each has settled every record that matches its filter.
func fanOut(ctx context.Context, client *sequin.Client, all []clocks.Record, file string) (t table, err error) {
	s := newStreams()
	if err := s.each(func(name string) error {
		_, err := client.CreateStream(ctx, name, sequin.StreamOptions{})
		return err
	}); err != nil {
		return t, err
	}
	defer func() {
		ctx, cancel := closingContext(ctx)
		defer cancel()
		if left := s.each(func(name string) error { return client.DeleteStream(ctx, name) }); err == nil {
			err = left // otherwise it most likely has the same reason
		}
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
	closing, cancel := closingContext(ctx)
	defer cancel()
	err = cmp.Or(err, lines.Close(closing), europe.close())
	if err != nil {
		return t, err
	}
	return newTable(ctx, client, s, branches, all, europe, asia)
}

// closingContext returns a context for what is done at the end, also after an interrupt has ended ctx.
func closingContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

// runBranches publishes the records, and stops the branches when each has handled its records.
func runBranches(ctx context.Context, client *sequin.Client, source string, branches []*branch, all []clocks.Record) error {
	for _, b := range branches {
		if err := b.subscribe(ctx, client, source, all); err != nil {
			return err
		}
		// For the case that a later branch fails, or that this one's handlers refuse to start. Otherwise they stop sub,
		// and return what Close would.
		defer func() {
			closing, cancel := closingContext(ctx)
			defer cancel()
			_ = b.sub.Close(closing)
		}()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(branches)+1)
	var pools, ends sync.WaitGroup
	for i, b := range branches {
		ends.Add(1)
		pools.Go(func() {
			if errs[i] = b.run(ctx, b.sub); errs[i] != nil {
				cancel() // the run has failed
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
	interrupted := ctx.Err() // by the caller or by a failure
	cancel()
	pools.Wait()
	return cmp.Or(append(errs, interrupted)...) // the first one: one failure makes the others fail
}

func publish(ctx context.Context, client *sequin.Client, stream string, all []clocks.Record) error {
	pub, err := client.NewPublisher(stream, sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	for _, r := range all {
		if err = pub.Send(ctx, r.Key, r.Data); err != nil {
			break
		}
	}
	// After an interrupt ctx has ended, and Close needs one that lives.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, pub.Close(closing))
}

// subscribe creates the branch's consumer and subscribes to it. The consumer allows many unacked messages, because the 2024
// server counts acked messages among them for five minutes.
func (b *branch) subscribe(ctx context.Context, client *sequin.Client, source string, all []clocks.Record) error {
	for _, r := range all {
		if b.matches(r.Key) {
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

func (b *branch) matches(key string) bool {
	return strings.HasPrefix(key, strings.TrimSuffix(b.filter, ">"))
}

// await returns when the branch has acked as many messages as match its filter and the server has no more for it, or when ctx
// ends. A program that runs for ever does not need this.
func (b *branch) await(ctx context.Context, client *sequin.Client, source string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		stats := b.sub.Stats()
		// An ack of unknown outcome may have arrived or not. The server knows.
		if stats.Acked+stats.UnknownOutcomes >= b.matching {
			left, err := client.PeekMessages(ctx, source, b.consumer, sequin.ListOptions{Limit: 1})
			if err == nil && len(left) == 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
