package watermillsequin_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
)

// plain stores the payload as it is, for programs without Watermill, and the UUID as the key. It leaves out the metadata.
type plain struct{}

func (plain) Marshal(_ string, m *message.Message) (sequin.Message, error) {
	return sequin.Message{Key: m.UUID, Data: string(m.Payload)}, nil
}

func (plain) Unmarshal(_ string, d sequin.Delivery) (*message.Message, error) {
	return message.NewMessage(d.Key, []byte(d.Data)), nil
}

// A program has its own Marshaler when other programs read or write the stream. The Subscriber has the Unmarshaler for it.
func ExampleMarshaler() {
	client, stop := embedded()
	defer stop()
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client, Marshaler: plain{}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := pub.Publish("orders", message.NewMessage("orders.1", []byte(`{"qty":4}`))); err != nil {
		log.Fatal(err)
	}
	stored, err := client.GetMessage(context.Background(), "orders", "orders.1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", stored.Key, stored.Data)

	sub, err := watermillsequin.NewSubscriber(watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "billing", Unmarshaler: plain{}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	messages, err := sub.Subscribe(context.Background(), "orders")
	if err != nil {
		log.Fatal(err)
	}
	m := <-messages
	fmt.Printf("received: %s %s\n", m.UUID, m.Payload)
	m.Ack()
	fmt.Println(sub.Close(), pub.Close())
	// Output:
	// stored: orders.1 {"qty":4}
	// received: orders.1 {"qty":4}
	// <nil> <nil>
}
