// Quickstart sends a real data set through the whole library and shows what arrived: one publisher, two consumers with
// filters of their own, acks, a redelivery, and how few requests that took.
//
//	go run ./examples/quickstart
//
// It needs nothing installed: the server runs inside. With $SEQUIN_URL set it uses that one.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/clocks"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\nquickstart:", err)
		os.Exit(1)
	}
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
	wire := newWire()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: &http.Client{Transport: wire}})
	if err != nil {
		return err
	}
	fmt.Printf("server   %s\n", srv.Where)
	fmt.Printf("data     %d records: every change of the world's clocks, such as\n         %s %s\n\n",
		len(all), all[len(all)/2].Key, all[len(all)/2].Data)

	// A stream of its own, so that a run disturbs nobody; with an underscore, because the 2024 server takes no dash.
	stream := "quickstart_" + uuid.NewString()[:8]
	if _, err := client.CreateStream(ctx, stream, sequin.StreamOptions{}); err != nil {
		return err
	}
	defer func() {
		// On a context of its own: the stream is removed after an interrupt too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, client.DeleteStream(ctx, stream))
	}()

	readers := []*reader{newReader("america", "tz.america.>", all), newReader("europe", "tz.europe.>", all)}
	for _, r := range readers {
		// A large window of unacked messages: for five minutes the 2024 server counts acked ones too.
		consumer, err := client.CreateConsumer(ctx, stream, r.name, r.filter, sequin.ConsumerOptions{MaxAckPending: 2 * len(all)})
		if err != nil {
			return err
		}
		r.consumer = consumer.ID
	}

	var sent writer
	shown := show(&sent, readers, len(all))
	defer shown.stop()
	var work sync.WaitGroup
	failed := make(chan error, 1+len(readers)) // room for everybody, so that nobody waits to fail
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := func(job func() error) {
		work.Go(func() {
			if err := job(); err != nil {
				failed <- err
				cancel() // the others have nothing to wait for
			}
		})
	}
	start(func() error { return sent.publish(ctx, client, stream, all) })
	for _, r := range readers {
		start(func() error { return r.read(ctx, client, stream) })
	}
	work.Wait()
	shown.stop()
	close(failed)
	if err := <-failed; err != nil {
		return err
	}
	printTable(&sent, readers, wire)
	return nil
}

// writer publishes the records.
type writer struct {
	stats func() sequin.PublisherStats // nil until it has begun
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
			return errors.Join(err, pub.Close(ctx))
		}
	}
	err = pub.Close(ctx) // sends what is still buffered, and says what was not sent
	w.mu.Lock()
	w.took = time.Since(began)
	w.mu.Unlock()
	return err
}

// progress returns how many were sent, and how long that took: 0 while it goes on.
func (w *writer) progress() (stats sequin.PublisherStats, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stats == nil {
		return stats, 0
	}
	return w.stats(), w.took
}

// reader consumes what matches its filter.
type reader struct {
	name, filter, consumer string
	expected               int // records that match

	mu                            sync.Mutex
	delivered, acked, redelivered int
	refused                       string        // the key that was nacked on purpose
	back                          time.Duration // after which it was there again
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

func (r *reader) read(ctx context.Context, client *sequin.Client, stream string) error {
	began := time.Now()
	sub, err := client.Subscribe(ctx, stream, r.consumer, sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	var nacked time.Time
	for d := range sub.Deliveries() {
		r.mu.Lock()
		r.delivered++
		first := r.refused == ""
		again := !first && d.Key == r.refused
		switch {
		case first:
			r.refused, nacked = d.Key, time.Now()
		case again:
			r.redelivered++
			r.back = time.Since(nacked)
		}
		r.mu.Unlock()
		if first {
			err = d.Nack() // on purpose: it comes again
		} else {
			err = d.Ack()
		}
		if err != nil {
			return errors.Join(err, sub.Close(ctx))
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
	err = sub.Close(ctx) // sends the last acks
	r.mu.Lock()
	r.took = time.Since(began)
	r.mu.Unlock()
	return errors.Join(sub.Err(), err, ctx.Err())
}
