package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// serverWithoutHeaders starts a server without the extension for headers, with the stream orders.
func serverWithoutHeaders(ctx context.Context) (client *sequin.Client, stop func()) {
	srv := server.New(server.Config{WithoutExtensions: []string{"headers"}})
	web := httptest.NewServer(srv)
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	return client, func() { client.Close(); srv.Close(); web.Close() }
}

// listUnsent lists the messages that are not sent.
func listUnsent(err error) {
	var unsent *sequin.UnsentError
	if !errors.As(err, &unsent) {
		fmt.Println(err) // nil, or for example ErrClosed
		return
	}
	for _, f := range unsent.Failed { // each has its own error
		fmt.Println("failed:", f.Message.Key, errors.Is(f, sequin.ErrUnsupported))
	}
	for _, m := range unsent.Unsent { // these can be sent later
		fmt.Println("unsent:", m.Key, m.Data)
	}
}

// Flush, Close and SendAllSync return an UnsentError. Its Failed messages have an error each. Unsent ones were left by Close: here
// because the server has stopped, and the ctx of Close has ended.
func ExampleUnsentError() {
	ctx := context.Background()
	client, stop := serverWithoutHeaders(ctx)
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range []sequin.Message{
		{Key: "orders.1", Data: "4 apples"}, {Key: "orders.2", Data: "2 pears", Headers: map[string]string{"tenant": "7"}},
	} {
		if err := pub.SendMessage(ctx, m); err != nil {
			log.Fatal(err)
		}
	}
	listUnsent(pub.Flush(ctx))

	stop()
	if err := pub.Send(ctx, "orders.3", "1 plum"); err != nil {
		log.Fatal(err)
	}
	closing, cancel := context.WithCancel(ctx)
	cancel() // do not wait for the server
	listUnsent(pub.Close(closing))
	// Output:
	// failed: orders.2 true
	// unsent: orders.3 1 plum
}

// OnFailure gets each message that cannot be sent as a MessageError. A message that was superseded should not be sent again,
// because a later message of its key was sent.
func ExampleMessageError() {
	ctx := context.Background()
	client, stop := serverWithoutHeaders(ctx)
	defer stop()
	var again []sequin.Message
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{OnFailure: func(e sequin.MessageError) {
		fmt.Println(e.Message.Key, "failed:", errors.Is(e.Err, sequin.ErrUnsupported))
		if !e.Superseded {
			e.Message.Headers = nil
			again = append(again, e.Message)
		}
	}})
	if err != nil {
		log.Fatal(err)
	}
	m := sequin.Message{Key: "orders.1", Data: "4 apples", Headers: map[string]string{"tenant": "7"}}
	if err := pub.SendMessage(ctx, m); err != nil {
		log.Fatal(err)
	}
	fmt.Println(pub.Close(ctx)) // waits for OnFailure
	sent, err := client.SendMessages(ctx, "orders", again)
	fmt.Println(sent.Published, err)
	// Output:
	// orders.1 failed: true
	// <nil>
	// 1 <nil>
}
