package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sequin-go/sequin"
)

func ExampleSubscriber() {
	ctx := context.Background()
	client, stop := exampleServer(ctx) // with a real server, a program calls sequin.NewClient(sequin.Config{})
	defer stop()
	for _, order := range []string{"4 apples", "2 pears", "nothing"} {
		key := "orders." + strings.ReplaceAll(order, " ", "_")
		if _, err := client.SendMessage(ctx, "orders", key, order); err != nil {
			panic(err)
		}
	}

	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	seen := 0
	for d := range sub.Deliveries() {
		fmt.Println(d.Data)
		if err := d.Ack(); err != nil {
			fmt.Println(err) // its lease is over: it is redelivered
		}
		if seen++; seen == 3 {
			break
		}
	}
	// Returns the messages that were not read, and sends the last acks.
	if err := sub.Close(ctx); err != nil {
		panic(err)
	}
	fmt.Println("acked:", sub.Stats().Acked)
	// Output:
	// 4 apples
	// 2 pears
	// nothing
	// acked: 3
}

// A bulk insert needs several messages at once.
func ExampleSubscriber_Take() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	for _, key := range []string{"orders.1", "orders.2", "orders.3"} {
		if _, err := client.SendMessage(ctx, "orders", key, "4 apples"); err != nil {
			panic(err)
		}
	}
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	for inserted := 0; inserted < 3; {
		batch, err := sub.Take(ctx, 100)
		if err != nil {
			panic(err)
		}
		for _, d := range batch { // here a program inserts them
			if err := d.Ack(); err != nil {
				panic(err)
			}
		}
		inserted += len(batch)
	}
	fmt.Println(sub.Close(ctx))
	// Output: <nil>
}

// One handler can serve several Subscribers: a Delivery tells where it comes from.
func ExampleDelivery_Stream() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples"); err != nil {
		panic(err)
	}
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	d := <-sub.Deliveries()
	fmt.Println(d.Key, "of", d.Stream(), "for", d.Consumer())
	if err := d.Ack(); err != nil {
		panic(err)
	}
	if err := sub.Close(ctx); err != nil {
		panic(err)
	}
	// Output: orders.1 of orders for billing
}

// bill handles a delivery as a program would. It knows neither a server nor a Subscriber.
func bill(d sequin.Delivery) error {
	if d.Data == "nothing" {
		return d.Nack()
	}
	return d.Ack()
}

// fakeAcknowledger records how a handler settles deliveries.
type fakeAcknowledger struct{ decisions []string }

func (f *fakeAcknowledger) Settle(_ context.Context, d sequin.Delivery, s sequin.Settlement) error {
	switch s.Kind {
	case sequin.Ack:
		f.decisions = append(f.decisions, "ack "+d.Key)
	case sequin.Nack:
		f.decisions = append(f.decisions, "nack "+d.Key)
	default:
		return errors.New("neither")
	}
	return nil
}

// A handler can be tested without a server: a literal Delivery passes every call to the Acknowledger that the test sets.
func ExampleAcknowledger() {
	var fake fakeAcknowledger
	for _, d := range []sequin.Delivery{
		{Key: "orders.1", Data: "4 apples", Acknowledger: &fake},
		{Key: "orders.2", Data: "nothing", Acknowledger: &fake},
	} {
		if err := bill(d); err != nil {
			panic(err)
		}
	}
	fmt.Println(strings.Join(fake.decisions, "\n"))
	// Output:
	// ack orders.1
	// nack orders.2
}
