package sequin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin"
)

// A Permanent error makes a dead letter at once: no retry can help. Any other error does so after MaxAttempts failures.
func ExamplePermanent() {
	ctx, cancel := context.WithCancel(context.Background())
	client, sub, stop := payments(ctx)
	defer stop()
	go cancelWhenAcked(ctx, client, "payments", cancel) // a program would wait for a signal

	err := sub.Handle(ctx, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead"}}, func(_ context.Context, d sequin.Delivery) error {
		if d.Key == "payments.3" {
			return sequin.Permanent(errors.New("the account is closed"))
		}
		return nil
	})
	fmt.Println("stopped:", err)

	letters, err := client.ListMessages(context.Background(), "dead", sequin.ListOptions{})
	if err != nil {
		log.Fatal(err)
	}
	var dead sequin.DeadMessage
	err = json.Unmarshal([]byte(letters[0].Data), &dead)
	fmt.Println(dead.Stream, dead.Key, dead.Attempts, dead.Error, err)
	// Output:
	// stopped: <nil>
	// payments payments.3 1 the account is closed <nil>
}

// MaxAttempts counts the calls of all processes: here of three workers, each with a Subscriber of its own.
func ExampleDeadLetter() {
	ctx, cancel := context.WithCancel(context.Background())
	client, sub, stop := payments(ctx)
	defer stop()
	go cancelWhenAcked(ctx, client, "payments", cancel) // a program would wait for a signal

	var calls atomic.Int32
	cfg := sequin.HandlerConfig{BackoffMin: time.Millisecond, BackoffMax: time.Millisecond, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 4}}
	var workers sync.WaitGroup
	for worker := range 3 {
		if worker > 0 {
			var err error
			if sub, err = client.Subscribe(ctx, "payments", "billing", sequin.SubscriberConfig{}); err != nil {
				log.Fatal(err)
			}
		}
		own := sub
		workers.Go(func() {
			_ = own.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				if d.Key != "payments.3" {
					return nil
				}
				calls.Add(1)
				return errors.New("the bank is closed")
			})
		})
	}
	workers.Wait()
	fmt.Println("calls:", calls.Load())
	// Output: calls: 4
}

// Redrive sends dead letters back to their streams, for example after the handler was mended.
func ExampleClient_Redrive() {
	ctx, cancel := context.WithCancel(context.Background())
	client, sub, stop := payments(ctx)
	defer stop()
	go cancelWhenAcked(ctx, client, "payments", cancel) // a program would wait for a signal
	dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 1}
	err := sub.Handle(ctx, sequin.HandlerConfig{DeadLetter: dead}, func(_ context.Context, d sequin.Delivery) error {
		_, err := sequin.DecodeJSON[Payment](d)
		return err // payments.2 becomes a dead letter
	})
	fmt.Println("stopped:", err)

	ctx = context.Background()
	if _, err := client.EnsureConsumer(ctx, "dead", "redrive", ">", sequin.ConsumerOptions{}); err != nil {
		log.Fatal(err)
	}
	redriven, err := client.Redrive(ctx, "dead", "redrive")
	fmt.Println(redriven.Sent, err)
	// The server may not have noticed yet that the Subscriber stopped, and may lease the message to a receive of it, which is
	// gone. Wait for longer than a lease.
	again, err := client.ReceiveMessages(ctx, "payments", "billing", sequin.ReceiveOptions{WaitFor: time.Minute})
	for _, m := range again {
		fmt.Println(m.Key, m.Data)
	}
	fmt.Println(err)
	// Output:
	// stopped: <nil>
	// 1 <nil>
	// payments.2 {"amount
	// <nil>
}

// A panic of a handler is an error of its message. OnError gets it with its stack.
func ExamplePanicError() {
	ctx, cancel := context.WithCancel(context.Background())
	_, sub, stop := payments(ctx)
	defer stop()

	err := sub.Handle(ctx, sequin.HandlerConfig{OnError: func(d sequin.Delivery, err error) {
		var panicked *sequin.PanicError
		if errors.As(err, &panicked) {
			fmt.Println(d.Key, panicked.Value, len(panicked.Stack) > 0)
		}
		cancel() // a program would wait for a signal
	}}, func(_ context.Context, d sequin.Delivery) error {
		if fields := strings.Split(d.Key, "."); fields[1] == "1" {
			_ = fields[2] // there is none
		}
		return nil
	})
	fmt.Println("stopped:", err)
	// Output:
	// payments.1 runtime error: index out of range [2] with length 2 true
	// stopped: <nil>
}
