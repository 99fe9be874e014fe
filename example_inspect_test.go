package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/sequin-go/sequin"
)

// PeekMessages shows what a consumer has not acked, without leasing it.
func ExampleClient_PeekMessages() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{{Key: "orders.1", Data: "one"}, {Key: "orders.2", Data: "two"}}); err != nil {
		log.Fatal(err)
	}
	m, err := client.ReceiveMessage(ctx, "orders", "billing")
	if err != nil {
		log.Fatal(err)
	}
	peeked, err := client.PeekMessages(ctx, "orders", "billing", sequin.ListOptions{Sort: sequin.SortDescending})
	for _, p := range peeked {
		fmt.Println(p.Message.Key, p.Info.State, p.Info.DeliverCount)
	}
	fmt.Println(err)

	available := true
	peeked, err = client.PeekMessages(ctx, "orders", "billing", sequin.ListOptions{Visible: &available})
	fmt.Println(len(peeked), "available", err)
	fmt.Println(client.NackMessage(ctx, "orders", "billing", m.AckID))
	// Output:
	// orders.2 available 0
	// orders.1 delivered 1
	// <nil>
	// 1 available <nil>
	// <nil>
}

// MessageInfo shows a message and its state for each consumer.
func ExampleClient_MessageInfo() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "one"); err != nil {
		log.Fatal(err)
	}
	m, err := client.ReceiveMessage(ctx, "orders", "billing")
	if err != nil {
		log.Fatal(err)
	}
	if err := client.AckMessage(ctx, "orders", "billing", m.AckID); err != nil {
		log.Fatal(err)
	}
	info, err := client.MessageInfo(ctx, "orders", "orders.1")
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range info.Consumers {
		fmt.Println(info.Message.Key, "for", c.ConsumerName, "is", c.State)
	}
	// Output: orders.1 for billing is acked
}

// ListMessages finds messages by a pattern of their keys.
func ExampleClient_ListMessages() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{
		{Key: "orders.cus_a.1", Data: "one"}, {Key: "orders.cus_b.1", Data: "two"}, {Key: "orders.cus_a.2", Data: "three"},
	}); err != nil {
		log.Fatal(err)
	}
	found, err := client.ListMessages(ctx, "orders", sequin.ListOptions{KeyPattern: "orders.cus_a.>", Limit: 10})
	for _, m := range found {
		fmt.Println(m.Seq, m.Key, m.Data)
	}
	fmt.Println(err)
	// Output:
	// 1 orders.cus_a.1 one
	// 3 orders.cus_a.2 three
	// <nil>
}

// AllMessages reads a stream of any length, in pages.
func ExampleClient_AllMessages() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{
		{Key: "orders.1", Data: "one"}, {Key: "orders.2", Data: "two"}, {Key: "orders.3", Data: "three"},
	}); err != nil {
		log.Fatal(err)
	}
	for m, err := range client.AllMessages(ctx, "orders", sequin.ListOptions{Limit: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Seq, m.Key, m.Data)
	}
	// Output:
	// 1 orders.1 one
	// 2 orders.2 two
	// 3 orders.3 three
}

// UpdateConsumer changes the options of a consumer. A running Subscriber notices a new AckWait within about a minute.
func ExampleClient_UpdateConsumer() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	_, err := client.UpdateConsumer(ctx, "orders", "billing", sequin.ConsumerOptions{AckWait: 2 * time.Minute, MaxDeliver: 5})
	if err != nil {
		log.Fatal(err)
	}
	all, err := client.ListConsumers(ctx, "orders")
	for _, c := range all {
		fmt.Println(c.Name, c.Filter, c.AckWait, c.MaxDeliver)
	}
	fmt.Println(err)
	// Output:
	// billing orders.> 2m0s 5
	// <nil>
}

// IsTransient tells a program whether it is worth trying again later.
func ExampleIsTransient() {
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://127.0.0.1:1", Retry: sequin.RetryConfig{MaxAttempts: 1}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.ListStreams(context.Background())
	fmt.Println(sequin.IsTransient(err))

	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	_, err = client.GetMessage(ctx, "orders", "orders.1")
	fmt.Println(sequin.IsTransient(err), errors.Is(err, sequin.ErrNotFound))
	// Output:
	// true
	// false true
}
