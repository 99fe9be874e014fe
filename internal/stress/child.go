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

// child is a producer or a worker: a process that may be killed at any time.
type child struct {
	url, name, account, consumer string
}

const streamName = "stress"

// start connects, and sees to it that the child does not outlive its director: that holds the other end of standard input.
func (c child) start() (*sequin.Client, *account, error) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the director
		os.Exit(1)
	}()
	a, err := openAccount(c.account)
	if err != nil {
		return nil, nil, err
	}
	client, err := sequin.NewClient(sequin.Config{BaseURL: c.url, Timeout: 5 * time.Second})
	return client, a, err
}

// pause between messages makes some 500 a second of a producer: enough to be always busy, little enough that workers on
// a small machine keep up.
const pause = 2 * time.Millisecond

// produce sends until ctx ends, and notes what its receipts confirm.
func (c child) produce(ctx context.Context) error {
	client, account, err := c.start()
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
				continue // Close has left it
			}
			if err := account.note(sent, p.id); err != nil {
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

// readers of a worker's channel. Each waits for its acks, so that what is confirmed is known.
const readers = 16

// work notes each message, and then settles it, until ctx ends.
func (c child) work(ctx context.Context) error {
	client, account, err := c.start()
	if err != nil {
		return err
	}
	sub, err := client.Subscribe(ctx, streamName, c.consumer, sequin.SubscriberConfig{MaxInFlight: 200})
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
				if err := handle(d, account); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(failed)
	return errors.Join(sub.Close(context.Background()), sub.Err(), <-failed)
}

// handle acks most of what comes; a few are nacked, or forgotten, once.
func handle(d sequin.Delivery, account *account) error {
	if err := account.note(worked, d.Data); err != nil {
		return err
	}
	f := fnv.New32a()
	_, _ = io.WriteString(f, d.AckID+d.Deadline.String()) // a hash takes everything
	switch f.Sum32() % 100 {
	case 0, 1:
		return nil
	case 2, 3, 4:
		_ = d.Nack() // what comes of it is the account's to tell
		return nil
	}
	// However long it takes: the lease bounds it.
	if err := d.AckSync(context.Background()); err != nil {
		return nil // in doubt, or too late
	}
	return account.note(acked, d.Data)
}
