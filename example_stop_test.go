package sequin_test

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sequin-go/sequin"
)

// A range loop over All ends with its ctx, or with the reason why no delivery comes any more.
func ExampleSubscriber_All() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples"); err != nil {
		panic(err)
	}
	for d, err := range sub.All(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Println(d.Key, d.Data)
		if err := d.Ack(); err != nil {
			panic(err)
		}
		break
	}
	fmt.Println(sub.Close(ctx))
	// Output:
	// orders.1 4 apples
	// <nil>
}

// A program that has no time to finish gives back what it has, so that another one gets it at once.
func ExampleSubscriber_CloseNow() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples"); err != nil {
		panic(err)
	}
	for range 2 {
		sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
		if err != nil {
			panic(err)
		}
		d := <-sub.Deliveries()
		fmt.Println(d.Key, "attempt", d.Attempt)
		if err := sub.CloseNow(ctx); err != nil {
			panic(err)
		}
	}
	// Output:
	// orders.1 attempt 1
	// orders.1 attempt 1
}

// A program that notes how far it is, for instance in a file, first makes sure that the server has its acks.
func ExampleSubscriber_Flush() {
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
	if err := d.Ack(); err != nil {
		panic(err)
	}
	fmt.Println(sub.Flush(ctx), sub.Stats().Acked)
	fmt.Println(sub.Close(ctx))
	// Output:
	// <nil> 1
	// <nil>
}

// A consumer that delivers one message at a time keeps the order of the whole stream, also over nacks.
func ExampleSubscriberConfig_ordered() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.CreateConsumer(ctx, "orders", "ledger", ">", sequin.ConsumerOptions{MaxAckPending: 1}); err != nil {
		panic(err)
	}
	for i := range 3 {
		if _, err := client.SendMessage(ctx, "orders", "orders."+strconv.Itoa(i), "x"); err != nil {
			panic(err)
		}
	}
	sub, err := client.Subscribe(ctx, "orders", "ledger", sequin.SubscriberConfig{Ordered: true})
	if err != nil {
		panic(err)
	}
	failed := false
	for d := range sub.Deliveries() {
		fmt.Println(d.Key)
		if d.Key == "orders.1" && !failed {
			failed = true
			_ = d.Nack()
			continue
		}
		_ = d.Ack()
		if d.Key == "orders.2" {
			break
		}
	}
	fmt.Println(sub.Close(ctx))
	// Output:
	// orders.0
	// orders.1
	// orders.1
	// orders.2
	// <nil>
}

// Each kind of message is named once, with its type and its key.
func ExampleTyped() {
	type order struct {
		ID  string `json:"id"`
		Qty int    `json:"qty"`
	}
	orders := sequin.Typed[order]{Key: func(o order) string { return "orders." + o.ID }}
	m, err := orders.Message(order{ID: "7", Qty: 4})
	fmt.Println(m.Key, m.Data, err)
	handle := orders.Handler(func(_ context.Context, o order, d sequin.Delivery) error {
		fmt.Println(d.Key, "has", o.Qty)
		return nil
	})
	fmt.Println(handle(context.Background(), sequin.Delivery{Key: m.Key, Data: m.Data}))
	// Output:
	// orders.7 {"id":"7","qty":4} <nil>
	// orders.7 has 4
	// <nil>
}

// A program that stops gives back what it has not begun. Another program gets it at once, and for that one it is the first attempt.
func ExampleDelivery_Release() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples"); err != nil {
		panic(err)
	}
	first, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	held := <-first.Deliveries()
	closed := make(chan error)
	go func() { closed <- first.Close(ctx) }()
	<-first.Stopping()
	fmt.Println(held.Release())
	fmt.Println(<-closed)

	second, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		panic(err)
	}
	again := <-second.Deliveries()
	fmt.Println(again.Key, "attempt", again.Attempt, again.Ack())
	fmt.Println(second.Close(ctx))
	// Output:
	// <nil>
	// <nil>
	// orders.1 attempt 1 <nil>
	// <nil>
}
