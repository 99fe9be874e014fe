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
	client, stop := exampleServer(ctx) // with a server of its own, a program says sequin.NewClient(sequin.Config{})
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
			fmt.Println(err) // its lease is over: it comes again
		}
		if seen++; seen == 3 {
			break
		}
	}
	// Gives back what was not handed out, and sends the last acks.
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

// bill is a handler as a program has it: it knows deliveries, and neither a server nor a Subscriber.
func bill(d sequin.Delivery) error {
	if d.Data == "nothing" {
		return d.Nack()
	}
	return d.Ack()
}

// fakeAcknowledger notes what a handler decides.
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

// A handler is tested without a server: a literal Delivery sends every call to the Acknowledger that the test gives it.
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
