package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// child is a producer or a worker. Its process may be killed at any time.
type child struct {
	url, name, log, consumer string
}

const streamName = "stress"

// start opens the event log and the client. It also starts a goroutine that exits when the director has ended, which closes
// the child's standard input.
func (c child) start() (*sequin.Client, *eventLog, error) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // returns when the director has ended
		os.Exit(1)
	}()
	events, err := openEventLog(c.log)
	if err != nil {
		return nil, nil, err
	}
	client, err := sequin.NewClient(sequin.Config{BaseURL: c.url, Timeout: 5 * time.Second})
	return client, events, err
}

// pause is the time between two messages. It makes about 500 messages a second, which keeps a producer busy and is slow enough
// for the workers on a small machine.
const pause = 2 * time.Millisecond

// produce sends messages until ctx is done, and logs those that their receipts confirm.
func (c child) produce(ctx context.Context) error {
	client, events, err := c.start()
	if err != nil {
		return err
	}
	pub, err := client.NewPublisher(streamName, sequin.PublisherConfig{MaxBatch: 50})
	if err != nil {
		return err
	}
	type pending struct {
		id string
		sequin.Receipt
	}
	queue := make(chan pending, 100_000)
	noted := make(chan error, 1)
	go func() {
		for p := range queue {
			if err := p.Wait(context.Background()); err != nil {
				continue // it was not sent before Close ended
			}
			if err := events.note(sent, p.id); err != nil {
				noted <- err
				return
			}
		}
		noted <- nil
	}()
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d", c.name, n)
		r, err := pub.SendReceipt(ctx, sequin.Message{Key: "stress." + id, Data: id})
		if err == nil {
			queue <- pending{id, r}
		}
		time.Sleep(pause)
	}
	closing, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = pub.Close(closing)
	close(queue)
	return errors.Join(err, <-noted)
}

// readers is the number of goroutines that read a worker's channel. Each waits for its acks to be confirmed.
const readers = 16

// work receives messages until ctx is done. It logs each one and then settles it.
func (c child) work(ctx context.Context) error {
	client, events, err := c.start()
	if err != nil {
		return err
	}
	sub, err := subscribe(ctx, client, c.consumer)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	failed := make(chan error, readers)
	for range readers {
		working.Go(func() {
			for d := range sub.Deliveries() {
				if err := handle(d, events); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(failed)
	closed := sub.Close(context.Background())
	if left := (*sequin.DrainError)(nil); errors.As(closed, &left) {
		closed = nil // handle leaves some deliveries unsettled
	}
	return errors.Join(closed, sub.Err(), <-failed)
}

// subscribe repeats Subscribe while the answers are the proxy's.
func subscribe(ctx context.Context, client *sequin.Client, consumer string) (*sequin.Subscriber, error) {
	for {
		sub, err := client.Subscribe(ctx, streamName, consumer, sequin.SubscriberConfig{MaxInFlight: 200})
		if err == nil || !sequin.IsTransient(err) || ctx.Err() != nil {
			return sub, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// handle acks most deliveries. It nacks 3 percent of them, and leaves 2 percent unsettled.
func handle(d sequin.Delivery, events *eventLog) error {
	if err := events.note(received, d.Data); err != nil {
		return err
	}
	f := fnv.New32a()
	_, _ = io.WriteString(f, d.AckID+d.Deadline.String()) // a hash returns no error
	switch f.Sum32() % 100 {
	case 0, 1:
		return nil
	case 2, 3, 4:
		_ = d.Nack() // the check of the event logs does not depend on nacks
		return nil
	}
	// The lease limits how long AckSync takes.
	if err := d.AckSync(context.Background()); err != nil {
		return nil // the outcome is unknown, or the lease has ended
	}
	return events.note(acked, d.Data)
}
