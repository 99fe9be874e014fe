package watermillsequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
)

// Publish creates the stream of a topic that has none, and returns when the server has stored the messages.
func ExamplePublisher() {
	client, stop := embedded()
	defer stop()
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client}, nil)
	if err != nil {
		log.Fatal(err)
	}
	order := message.NewMessage(watermill.NewUUID(), []byte(`{"qty":4}`))
	order.Metadata.Set("customer", "ann")
	fmt.Println(pub.Publish("orders", order))
	fmt.Println(pub.Close())
	err = pub.Publish("orders", order)
	fmt.Println(errors.Is(err, watermillsequin.ErrClosed))

	stored, err := client.ListMessages(context.Background(), "orders", sequin.ListOptions{})
	fmt.Println(len(stored), "stored", err)
	// Output:
	// <nil>
	// <nil>
	// true
	// 1 stored <nil>
}

// SubscribeInitialize creates the consumer of the group, so that it gets what is published before Subscribe. A message that is
// nacked comes again.
func ExampleSubscriber() {
	client, stop := embedded()
	defer stop()
	sub, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{
		Client: client, ConsumerGroup: "billing",
		Handler: sequin.HandlerConfig{BackoffMin: time.Millisecond}, // how long the first nack keeps a message back
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := sub.SubscribeInitialize("orders"); err != nil {
		log.Fatal(err)
	}
	if err := pub.Publish("orders", message.NewMessage("1", []byte("4 apples"))); err != nil {
		log.Fatal(err)
	}

	messages, err := sub.Subscribe(context.Background(), "orders")
	if err != nil {
		log.Fatal(err)
	}
	m := <-messages
	fmt.Printf("%s: %s\n", m.UUID, m.Payload)
	m.Nack() // for example because a database was not available
	m = <-messages
	fmt.Printf("%s: %s\n", m.UUID, m.Payload)
	m.Ack()
	fmt.Println(sub.Close(), pub.Close())
	// Output:
	// 1: 4 apples
	// 1: 4 apples
	// <nil> <nil>
}
