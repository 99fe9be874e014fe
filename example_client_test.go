package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// exampleClient returns a client of an embedded server. A real program calls sequin.NewClient(sequin.Config{}) and sets
// $SEQUIN_URL to the server's address.
func exampleClient() (client *sequin.Client, done func()) {
	s := server.New(server.Config{})
	srv := httptest.NewServer(s)
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
	if err != nil {
		panic(err)
	}
	return client, func() { client.Close(); s.Close(); srv.Close() }
}

// This example sends, receives and acks one message. Each call is one request.
func ExampleClient() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()

	if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true}); err != nil {
		fmt.Println(err)
		return
	}
	billing, err := client.EnsureConsumer(ctx, "orders", "billing", "orders.>", sequin.ConsumerOptions{AckWait: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	sent, err := client.SendMessage(ctx, "orders", "orders.cus_a.1", `{"qty":4}`)
	fmt.Println("sent", sent.Published, err)

	m, err := client.ReceiveMessage(ctx, "orders", billing.ID)
	if err != nil || m == nil {
		fmt.Println("nothing", err)
		return
	}
	fmt.Println(m.Key, m.Data, "delivery", m.DeliverCount)
	fmt.Println("acked", client.AckMessage(ctx, "orders", billing.ID, m.AckID))
	// Output:
	// sent 1 <nil>
	// orders.cus_a.1 {"qty":4} delivery 1
	// acked <nil>
}

// A batch succeeds or fails as a whole. If one message is not valid, the call returns its error and sends nothing.
func ExampleClient_SendMessages() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	batch := []sequin.Message{{Key: "orders.1", Data: "one"}, {Key: "orders.2", Data: "two"}}
	sent, err := client.SendMessages(ctx, "orders", batch)
	fmt.Println(sent.Published, err)

	batch[1].Key = "orders 2"
	_, err = client.SendMessages(ctx, "orders", batch)
	fmt.Println(errors.Is(err, sequin.ErrInvalidKey), err)
	// Output:
	// 2 <nil>
	// true message 1: sequin: invalid key: "orders 2" contains ' '; only printable ASCII without spaces is allowed
}

// A receive may wait at the server until a message is available.
func ExampleClient_ReceiveMessages() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	all, err := client.CreateConsumer(ctx, "orders", "all", ">", sequin.ConsumerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _, _ = client.SendMessage(ctx, "orders", "orders.1", "one") }()

	got, err := client.ReceiveMessages(ctx, "orders", all.ID, sequin.ReceiveOptions{BatchSize: 100, WaitFor: 20 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	var ids []string
	for _, m := range got {
		fmt.Println(m.Key, m.Data)
		ids = append(ids, m.AckID)
	}
	fmt.Println(client.AckMessages(ctx, "orders", all.ID, ids))
	// Output:
	// orders.1 one
	// <nil>
}

// An APIError has the server's status and explanation. errors.Is finds the cause that a program can handle.
func ExampleAPIError() {
	client, done := exampleClient()
	defer done()
	_, err := client.GetStream(context.Background(), "ordres")

	var api *sequin.APIError
	if errors.As(err, &api) {
		fmt.Println(api.Status, api.Summary)
	}
	fmt.Println(errors.Is(err, sequin.ErrNotFound))
	// Output:
	// 404 Not found: No `stream` found matching the provided ID or name
	// true
}

// Ping before the work begins: a wrong URL or token shows at once.
func ExampleClient_Ping() {
	client, done := exampleClient()
	defer done()
	info, err := client.Ping(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.Kind, info.Streams, info.ClockOffset)
	// Output: extended 0 0s
}
