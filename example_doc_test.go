package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/sequin-go/sequin"
)

// smallestPublisher is the first code of the package documentation.
func smallestPublisher(ctx context.Context, client *sequin.Client) error {
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		return err
	}
	if err := pub.Send(ctx, "orders.1", `{"qty":4}`); err != nil { // buffers; waits only while the buffer is full
		return err
	}
	return pub.Close(context.WithoutCancel(ctx)) // sends what is buffered, also after ctx has ended
}

// smallestSubscriber is the second one.
func smallestSubscriber(ctx context.Context, client *sequin.Client) error {
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		return err
	}
	for d := range sub.Deliveries() {
		if charge(ctx, d.Key, d.Data) == nil {
			d.Ack() // queued; acks are sent together
		} else {
			d.NackAfter(time.Second) // Nack brings back what always fails at once, thousands of times a second
		}
	}
	return errors.Join(sub.Err(), sub.Close(context.WithoutCancel(ctx))) // waits for the last acks
}

// smallestHandler is the third one.
func smallestHandler(ctx context.Context, sub *sequin.Subscriber) error {
	return sub.Handle(ctx, sequin.HandlerConfig{Workers: 8}, func(ctx context.Context, d sequin.Delivery) error {
		return charge(ctx, d.Key, d.Data)
	})
}

func Example() {
	client, stop := exampleServer(context.Background())
	defer stop()
	subscribeAndHandle := func(ctx context.Context, client *sequin.Client) error {
		sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
		if err != nil {
			return err
		}
		return smallestHandler(ctx, sub)
	}
	for _, consume := range []func(context.Context, *sequin.Client) error{smallestSubscriber, subscribeAndHandle} {
		ctx, cancel := context.WithCancel(context.Background())
		if err := smallestPublisher(ctx, client); err != nil {
			log.Fatal(err)
		}
		go cancelWhenAcked(ctx, client, "orders", cancel)
		fmt.Println(consume(ctx, client))
	}
	// Output:
	// orders.1 {"qty":4}
	// <nil>
	// orders.1 {"qty":4}
	// <nil>
}
