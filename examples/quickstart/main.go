// Quickstart sends a real data set through the whole library and shows what arrived: one publisher, two consumers with
// different filters, acks, a redelivery, and how few requests all of this took.
//
//	go run ./examples/quickstart
//
// Nothing has to be installed: the server runs inside the process. If $SEQUIN_URL is set, that server is used instead, with
// the token of $SEQUIN_TOKEN.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/clocks"
	"github.com/sequin-go/sequin/examples/internal/command"
)

var quickstart = command.Command{Name: "quickstart", Usage: "(no options)", About: `Sends a real data set through the whole library and shows what arrived. The
server runs inside the process, or is that of $SEQUIN_URL and $SEQUIN_TOKEN.
`}

func main() {
	if err := quickstart.Parse(flag.NewFlagSet("quickstart", flag.ContinueOnError), os.Args[1:], os.Stderr); err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(quickstart.Run(os.Stderr, run))
}

func run(ctx context.Context) (err error) {
	all, err := clocks.Records()
	if err != nil {
		return err
	}
	srv, err := backend.Find()
	if err != nil {
		return err
	}
	defer srv.Stop()
	requests := newRequestCounter()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: &http.Client{Transport: requests}})
	if err != nil {
		return err
	}
	fmt.Printf("server   %s\n", srv.Where)
	fmt.Printf("data     %d records: every change of the world's clocks, such as\n         %s %s\n\n",
		len(all), all[len(all)/2].Key, all[len(all)/2].Data)

	// The run has a stream of its own, so that it disturbs no other. The name has no dash: the 2024 server accepts none.
	stream := "quickstart_" + uuid.NewString()[:8]
	if _, err := client.CreateStream(ctx, stream, sequin.StreamOptions{}); err != nil {
		return err
	}
	defer func() {
		// On a context of its own, so that the stream is deleted after an interrupt, too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if left := client.DeleteStream(ctx, stream); err == nil {
			err = left // otherwise it most likely has the same reason
		}
	}()
	readers := []*reader{newReader("america", "tz.america.>", all), newReader("europe", "tz.europe.>", all)}
	for _, r := range readers {
		if err := r.createConsumer(ctx, client, stream, len(all)); err != nil {
			return err
		}
	}

	var sent writer
	shown := show(&sent, readers, len(all))
	defer shown.stop()
	jobs := []func(context.Context) error{func(ctx context.Context) error { return sent.publish(ctx, client, stream, all) }}
	for _, r := range readers {
		jobs = append(jobs, func(ctx context.Context) error { return r.read(ctx, client, stream) })
	}
	if err := runTogether(ctx, jobs); err != nil {
		return err
	}
	shown.stop()
	printTable(&sent, readers, requests)
	return nil
}

// runTogether runs each job on a goroutine of its own. It cancels the others when one fails, waits for all of them, and
// returns the first error.
func runTogether(ctx context.Context, jobs []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(jobs)) // has room for every job
	var running sync.WaitGroup
	for _, job := range jobs {
		running.Go(func() {
			if err := job(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	running.Wait()
	close(failed)
	return <-failed
}

// closeWithin calls a Close with 5 s of its own, because after an interrupt ctx has ended.
func closeWithin(ctx context.Context, close func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return close(ctx)
}

// writer publishes the records.
type writer struct {
	stats func() sequin.PublisherStats // nil before publish
	mu    sync.Mutex
	took  time.Duration
}

func (w *writer) publish(ctx context.Context, client *sequin.Client, stream string, all []clocks.Record) error {
	pub, err := client.NewPublisher(stream, sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.stats = pub.Stats
	w.mu.Unlock()
	began := time.Now()
	for _, r := range all {
		if err := pub.Send(ctx, r.Key, r.Data); err != nil {
			return errors.Join(err, closeWithin(ctx, pub.Close))
		}
	}
	err = closeWithin(ctx, pub.Close) // sends what is still buffered, and returns what it could not send
	w.mu.Lock()
	w.took = time.Since(began)
	w.mu.Unlock()
	return err
}

// progress returns the totals so far, and how long publishing took: 0 while it runs.
func (w *writer) progress() (stats sequin.PublisherStats, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stats == nil {
		return stats, 0
	}
	return w.stats(), w.took
}

// reader consumes the records that match its filter.
type reader struct {
	name, filter, consumer string
	expected               int // number of records that match

	mu                            sync.Mutex
	delivered, acked, redelivered int
	nacked                        string        // the key that was nacked on purpose
	redeliveredAfter              time.Duration // how long after the nack
	took                          time.Duration
}

func newReader(name, filter string, all []clocks.Record) *reader {
	r := &reader{name: name, filter: filter}
	for _, rec := range all {
		if strings.HasPrefix(rec.Key, strings.TrimSuffix(filter, ">")) {
			r.expected++
		}
	}
	return r
}

// createConsumer creates the consumer of the reader. It allows many unacked messages, because the 2024 server counts acked
// messages among them for five minutes.
func (r *reader) createConsumer(ctx context.Context, client *sequin.Client, stream string, records int) error {
	consumer, err := client.CreateConsumer(ctx, stream, r.name, r.filter, sequin.ConsumerOptions{MaxAckPending: 2 * records})
	if err != nil {
		return err
	}
	r.consumer = consumer.ID
	return nil
}

// read acks every record that the consumer delivers, except that it nacks the first one once.
func (r *reader) read(ctx context.Context, client *sequin.Client, stream string) error {
	began := time.Now()
	sub, err := client.Subscribe(ctx, stream, r.consumer, sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	var nackedAt time.Time
	for d := range sub.Deliveries() {
		r.mu.Lock()
		r.delivered++
		first := r.nacked == ""
		again := !first && d.Key == r.nacked
		switch {
		case first:
			r.nacked, nackedAt = d.Key, time.Now()
		case again:
			r.redelivered++
			r.redeliveredAfter = time.Since(nackedAt)
		}
		r.mu.Unlock()
		if first {
			err = d.Nack() // on purpose: it is redelivered
		} else {
			err = d.Ack()
		}
		if err != nil {
			return errors.Join(err, closeWithin(ctx, sub.Close))
		}
		r.mu.Lock()
		if !first {
			r.acked++
		}
		complete := r.acked == r.expected
		r.mu.Unlock()
		if complete {
			break
		}
	}
	err = closeWithin(ctx, sub.Close) // sends the last acks
	r.mu.Lock()
	r.took = time.Since(began)
	r.mu.Unlock()
	return errors.Join(sub.Err(), err, ctx.Err())
}
