package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/sequin-go/sequin"
)

// CreateStream and CreateConsumer return the stream and the consumer as the server has stored them, with all their options.
func ExampleClient_CreateConsumer() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()

	orders, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true, RetainUpTo: 1000})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(orders.Name, "keeps", *orders.RetainUpTo, "messages")
	billing, err := client.CreateConsumer(ctx, "orders", "billing", "orders.*.new", sequin.ConsumerOptions{AckWait: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(billing.Name, billing.Filter, billing.AckWait)

	_, err = client.CreateStream(ctx, "orders", sequin.StreamOptions{})
	fmt.Println(errors.Is(err, sequin.ErrValidation)) // the name is in use: EnsureStream would compare the options
	// Output:
	// orders keeps 1000 messages
	// billing orders.*.new 1m0s
	// true
}

// GetConsumer returns a consumer by its name or id, with the options that the server has filled in.
func ExampleClient_GetConsumer() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	billing, err := client.GetConsumer(ctx, "orders", "billing")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(billing.Name, billing.Filter, billing.AckWait, billing.MaxAckPending)

	_, err = client.GetConsumer(ctx, "orders", "shipping")
	fmt.Println(errors.Is(err, sequin.ErrNotFound))
	// Output:
	// billing orders.> 30s 10000
	// true
}

// GetStream counts the messages and the consumers of a stream.
func ExampleClient_GetStream() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "one"); err != nil {
		log.Fatal(err)
	}
	orders, err := client.GetStream(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(orders.Stats.MessageCount, "message,", orders.Stats.ConsumerCount, "consumer")
	// Output: 1 message, 1 consumer
}

// GetMessage reads the current message of a key. It leases nothing and changes nothing.
func ExampleClient_GetMessage() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	if _, err := client.CreateStream(ctx, "carts", sequin.StreamOptions{OneMessagePerKey: true}); err != nil {
		log.Fatal(err)
	}
	for _, data := range []string{"1 apple", "2 apples"} {
		if _, err := client.SendMessage(ctx, "carts", "carts.cus_a", data); err != nil {
			log.Fatal(err)
		}
	}
	m, err := client.GetMessage(ctx, "carts", "carts.cus_a")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Key, m.Data)
	_, err = client.GetMessage(ctx, "carts", "carts.cus_b")
	fmt.Println(errors.Is(err, sequin.ErrNotFound))
	// Output:
	// carts.cus_a 2 apples
	// true
}

// NackMessages makes messages available again, at once.
func ExampleClient_NackMessages() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "one"); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		m, err := client.ReceiveMessage(ctx, "orders", "billing")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Key, "delivery", m.DeliverCount)
		if err := client.NackMessages(ctx, "orders", "billing", []string{m.AckID}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// orders.1 delivery 1
	// orders.1 delivery 2
}

// DeleteStream deletes a stream with its messages and consumers. DeleteConsumer leaves the messages.
func ExampleClient_DeleteStream() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	fmt.Println(client.DeleteConsumer(ctx, "orders", "billing"))
	fmt.Println(client.DeleteStream(ctx, "orders"))

	streams, err := client.ListStreams(ctx)
	fmt.Println(len(streams), err)
	fmt.Println(errors.Is(client.DeleteStream(ctx, "orders"), sequin.ErrNotFound))
	// Output:
	// <nil>
	// <nil>
	// 0 <nil>
	// true
}

// A Receipt tells when the server has confirmed a message that was sent in the background.
func ExampleReceipt_Wait() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pub.SendSync(ctx, sequin.Message{Key: "orders.1", Data: "one"})) // returns when it is stored

	receipt, err := pub.SendReceipt(ctx, sequin.Message{Key: "orders.2", Data: "two"}) // returns at once
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Wait(ctx))
	fmt.Println(pub.Close(ctx), pub.Stats().Sent, "sent")
	// Output:
	// <nil>
	// <nil>
	// <nil> 2 sent
}

// The error of DecodeJSON is Permanent, so that a handler that returns it gets no retries.
func ExampleDecodeJSON() {
	type order struct {
		Qty int `json:"qty"`
	}
	got, err := sequin.DecodeJSON[order](sequin.Delivery{Key: "orders.1", Data: `{"qty":4}`})
	fmt.Println(got.Qty, err)
	_, err = sequin.DecodeJSON[order](sequin.Delivery{Key: "orders.2", Data: `{"qty":"four"}`})
	fmt.Println(sequin.IsPermanent(err))
	// Output:
	// 4 <nil>
	// true
}

// PurgeStream removes messages that nobody needs any more. A bound says which; All removes every message.
func ExampleClient_PurgeStream() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()

	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	_, err := client.SendMessages(ctx, "orders", []sequin.Message{{Key: "orders.eu.1"}, {Key: "orders.us.1"}, {Key: "orders.eu.2"}})
	if err != nil {
		log.Fatal(err)
	}
	purged, err := client.PurgeStream(ctx, "orders", sequin.PurgeOptions{KeyPattern: "orders.eu.>", BeforeSeq: 3})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(purged, "purged")
	for m, err := range client.AllMessages(ctx, "orders", sequin.ListOptions{}) {
		fmt.Println(m.Seq, m.Key, err)
	}
	// Output:
	// 1 purged
	// 2 orders.us.1 <nil>
	// 3 orders.eu.2 <nil>
}

// StartFrom lets a new consumer leave out what was sent before. Programs that start again find the consumer, which keeps its start.
func ExampleStart() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()

	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{{Key: "orders.1"}, {Key: "orders.2"}}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		live, err := client.EnsureConsumer(ctx, "orders", "live", ">", sequin.ConsumerOptions{StartFrom: sequin.StartEnd})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("starts at", live.StartSeq)
		if _, err := client.SendMessage(ctx, "orders", "orders.3", ""); err != nil {
			log.Fatal(err)
		}
	}
	got, err := client.ReceiveMessage(ctx, "orders", "live")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got.Key)
	// Output:
	// starts at 3
	// starts at 3
	// orders.3
}

// A new consumer may leave out what is there. StartSeq begins at a message, and StartTime at those that were stored since.
func ExampleStartSeq() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	for i := range 3 {
		if _, err := client.SendMessage(ctx, "orders", fmt.Sprint("orders.", i), "x"); err != nil {
			log.Fatal(err)
		}
	}
	for name, from := range map[string]sequin.Start{"third": sequin.StartSeq(3), "today": sequin.StartTime(time.Now().Add(-24 * time.Hour))} {
		if _, err := client.CreateConsumer(ctx, "orders", name, ">", sequin.ConsumerOptions{StartFrom: from}); err != nil {
			log.Fatal(err)
		}
	}
	for _, name := range []string{"third", "today"} {
		got, err := client.ReceiveMessages(ctx, "orders", name, sequin.ReceiveOptions{})
		fmt.Println(name, len(got), err)
	}
	// Output:
	// third 1 <nil>
	// today 3 <nil>
}
