package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin"
)

// growing is something whose number grows, and the work that is measured with each number.
type growing struct {
	name, unit string
	over       []int
	messages   int
	works      []string
	run        func(ctx context.Context, work string, x, n int) (time.Duration, error)
}

// tens are the powers of ten from 10^from to 10^to.
func tens(from, to int) (all []int) {
	for x, e := 1, 0; e <= to; x, e = 10*x, e+1 {
		if e >= from {
			all = append(all, x)
		}
	}
	return all
}

// growths are measured in this order. With four million messages each of 1,000 Publishers fills four batches, and with two each of 1,000
// Subscribers two receives.
func growths() []growing {
	return []growing{
		{"backlog", "messages in the stream", tens(3, 7), 200_000, []string{"publish", "consume"}, onBacklog},
		{"keys", "keys of a stream that keeps one message per key", tens(3, 7), 200_000, []string{"publish"}, onKeys},
		{"streams", "streams on the server", tens(0, 4), 200_000, []string{"publish", "consume"}, onStreams},
		{"publishers", "Publishers of one Client", tens(0, 3), 4_000_000, []string{"publish"}, onPublishers},
		{"subscribers", "Subscribers of one Client and consumer", tens(0, 3), 2_000_000, []string{"consume"}, onSubscribers},
	}
}

// measureGrowth measures how the rates depend on numbers that grow.
func measureGrowth(ctx context.Context, opts options, all *results) error {
	all.Growth = nil
	for _, g := range growths() {

		if opts.quick {
			g.over, g.messages = g.over[:2], 10*opts.counts[100]
		}
		ax := axis{Name: g.name, Unit: g.unit}
		for _, work := range g.works {
			rounds := make([][]float64, len(g.over))
			for range opts.rounds { // each with all numbers, because a machine is faster in some minutes than in others
				for i, x := range g.over {
					runtime.GC()
					took, err := g.run(ctx, work, x, g.messages)
					if err != nil {
						return fmt.Errorf("%s, %s, %d: %w", g.name, work, x, err)
					}
					rounds[i] = append(rounds[i], float64(g.messages)/took.Seconds())
				}
			}
			s := series{Name: work, Rounds: rounds}
			for i, x := range g.over {
				s.X, s.Y = append(s.X, float64(x)), append(s.Y, median(rounds[i]))
				progress("%s, %s, %d: %s messages/s", g.name, work, x, thousands(s.Y[i]))
			}
			ax.Series = append(ax.Series, s)
		}
		all.Growth = append(all.Growth, ax)
	}
	header, rows := all.growthCells()
	table("How the rates depend on what grows", header, rows)
	return nil
}

// growthCells returns a row for each kind of work, with a column for each power of ten.
func (r *results) growthCells() (header []string, rows [][]string) {
	columns := tens(0, 7)
	header = []string{"messages a second, over the number of"}
	for _, x := range columns {
		header = append(header, thousands(float64(x)))
	}
	for _, a := range r.Growth {
		for _, s := range a.Series {
			row := []string{a.Unit + ": " + s.Name}
			for _, x := range columns {
				cell := ""
				if i := slices.Index(s.X, float64(x)); i >= 0 {
					cell = noise(s.Rounds[i]) + thousands(s.Y[i])
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	return header, rows
}

func (r *results) growthTable() string {
	header, rows := r.growthCells()
	var b strings.Builder
	b.WriteString("| " + strings.Join(header, " | ") + " |\n| ---" + strings.Repeat(" | ---:", len(header)-1) + " |\n")
	for _, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}

// onBacklog measures n messages on a stream with a backlog. For publish, x messages are stored before the clock starts. For
// consume, n + x are stored, and the first n of them are consumed.
func onBacklog(ctx context.Context, work string, x, n int) (time.Duration, error) {
	return onStream(ctx, false, func(ctx context.Context, url string) (time.Duration, error) {
		stored := x
		if work == "consume" {
			stored += n
		}
		if _, err := (settings{}).send(ctx, url, eachOf(stored)); err != nil {
			return 0, err
		}
		runtime.GC() // otherwise the garbage of filling would be collected during some rounds and not during others
		if work == "publish" {
			return settings{}.publish(ctx, url, n, 100)
		}
		return settings{}.consume(ctx, url, n, 100)
	})
}

// eachOf makes the messages 0 to n-1 one by one, because ten million at once would take gigabytes.
func eachOf(n int) iter.Seq[sample] {
	data := payload(100)
	return func(yield func(sample) bool) {
		for i := range n {
			if !yield(sample{key: key(i), data: data}) {
				return
			}
		}
	}
}

// onKeys measures n messages that replace others on a stream with x keys. All keys come before one of them comes again.
func onKeys(ctx context.Context, _ string, x, n int) (time.Duration, error) {
	return onStream(ctx, true, func(ctx context.Context, url string) (time.Duration, error) {
		if _, err := (settings{}).send(ctx, url, eachOf(x)); err != nil {
			return 0, err
		}
		messages, order := make([]sample, n), rand.Perm(x)
		for i := range messages {
			messages[i] = sample{key: key(order[i%x]), data: fmt.Sprintf("%08d", i) + payload(100)[8:]} // differs, so that it is stored
		}
		runtime.GC()
		return settings{}.send(ctx, url, slices.Values(messages))
	})
}

// used is how many streams are used at most. The others cost what they cost by being there.
const used = 40

// onStreams measures one-shot calls of four goroutines, each with 1,000 messages, on a server with x streams. The calls go to some of
// the streams in turn, each of which has had one before the clock starts.
func onStreams(ctx context.Context, work string, x, n int) (took time.Duration, err error) {
	return onStream(ctx, false, func(ctx context.Context, url string) (time.Duration, error) {
		client, err := newClient(url)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		if err := createStreams(ctx, client, x); err != nil {
			return 0, err
		}
		batches := make([][]sequin.Message, n/sequin.MaxBatch)
		for i := range batches {
			batches[i] = make([]sequin.Message, sequin.MaxBatch)
			for j := range batches[i] {
				batches[i][j] = sequin.Message{Key: key(i*sequin.MaxBatch + j), Data: payload(100)}
			}
		}
		at := func(batch int) string { return streamName(batch % min(x, used) * max(1, x/used)) }
		send := func(i int) error { _, err := client.SendMessages(ctx, at(i), batches[i]); return err }
		receive := func(i int) error { return receiveBatch(ctx, client, at(i)) }
		if err := errors.Join(inFour(used, send), inFour(used, receive)); err != nil {
			return 0, err
		}
		runtime.GC()
		began := time.Now()
		if err = inFour(len(batches), send); err != nil || work == "publish" {
			return time.Since(began), err
		}
		runtime.GC()
		began = time.Now()
		err = inFour(len(batches), receive)
		return time.Since(began), err
	})
}

func streamName(i int) string {
	if i == 0 {
		return "stream"
	}
	return fmt.Sprint("stream", i)
}

// createStreams creates streams with consumers until there are x. The first exists.
func createStreams(ctx context.Context, client *sequin.Client, x int) error {
	return inFour(x-1, func(i int) error {
		if _, err := client.CreateStream(ctx, streamName(i+1), sequin.StreamOptions{}); err != nil {
			return err
		}
		_, err := client.CreateConsumer(ctx, streamName(i+1), "consumer", ">", sequin.ConsumerOptions{})
		return err
	})
}

// receiveBatch receives and acks 1,000 messages.
func receiveBatch(ctx context.Context, client *sequin.Client, stream string) error {
	got, err := client.ReceiveMessages(ctx, stream, "consumer", sequin.ReceiveOptions{BatchSize: sequin.MaxBatch})
	if err == nil && len(got) != sequin.MaxBatch {
		err = fmt.Errorf("received %d messages", len(got))
	}
	if err != nil {
		return err
	}
	ids := make([]string, len(got))
	for i := range got {
		ids[i] = got[i].AckID
	}
	return client.AckMessages(ctx, stream, "consumer", ids)
}

// inFour calls do for 0 to n-1 on four goroutines.
func inFour(n int, do func(i int) error) error {
	errs := make([]error, 4)
	var group sync.WaitGroup
	for g := range errs {
		group.Go(func() {
			for i := g; i < n && errs[g] == nil; i += len(errs) {
				errs[g] = do(i)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// onPublishers shares n messages among x Publishers, each with a goroutine that sends. Each has sent one before the clock starts.
func onPublishers(ctx context.Context, _ string, x, n int) (time.Duration, error) {
	return onStream(ctx, false, func(ctx context.Context, url string) (time.Duration, error) {
		client, err := newClient(url)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		pubs := make([]*sequin.Publisher, x)
		for i := range pubs {
			if pubs[i], err = client.NewPublisher("stream", sequin.PublisherConfig{}); err != nil {
				return 0, err
			}
			if err = pubs[i].SendSync(ctx, sequin.Message{Key: "first"}); err != nil {
				return 0, err
			}
		}
		parts := slices.Collect(slices.Chunk(samples(n, 100, false), n/x))
		errs := make([]error, x)
		var group sync.WaitGroup
		runtime.GC()
		began := time.Now()
		for i, pub := range pubs {
			group.Go(func() {
				for _, m := range parts[i] {
					errs[i] = errors.Join(errs[i], pub.Send(ctx, m.key, m.data))
				}
				errs[i] = errors.Join(errs[i], pub.Close(ctx))
			})
		}
		group.Wait()
		return time.Since(began), errors.Join(errs...)
	})
}

// onSubscribers shares n messages among x Subscribers of one consumer. All of them are open when the clock starts, and have received
// their first messages. The time ends when the last message is acked.
func onSubscribers(ctx context.Context, _ string, x, n int) (time.Duration, error) {
	return onServer(ctx, n, 100, true, func(ctx context.Context, url string, _, _ int) (took time.Duration, err error) {
		client, err := newClient(url)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		var readers sync.WaitGroup
		defer readers.Wait() // after the Subscribers are closed
		subs := make([]*sequin.Subscriber, x)
		for i := range subs {
			if subs[i], err = client.Subscribe(ctx, "stream", "consumer", sequin.SubscriberConfig{}); err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, subs[i].Close(ctx)) }()
		}
		for _, sub := range subs {
			for sub.Stats().InFlight == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		var acked atomic.Int64
		all := make(chan struct{})
		runtime.GC()
		began := time.Now()
		for _, sub := range subs {
			readers.Go(func() {
				for d := range sub.Deliveries() {
					if d.Ack() == nil && acked.Add(1) == int64(n) {
						close(all)
					}
				}
			})
		}
		select {
		case <-all:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		return time.Since(began), nil
	})
}
