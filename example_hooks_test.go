package sequin_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// Hooks that count the requests and the messages that were sent.
func ExampleHooks() {
	requests, messages := 0, 0
	s := server.New(server.Config{})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, Hooks: &sequin.Hooks{
		RequestDone: func(_ context.Context, r sequin.RequestInfo, result sequin.RequestResult) {
			if r.Op == "send" && result.Err == nil {
				requests, messages = requests+1, messages+r.Messages
			}
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.SendMessages(ctx, "orders", []sequin.Message{{Key: "1", Data: "new"}, {Key: "2", Data: "new"}}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(requests, "request,", messages, "messages")
	// Output: 1 request, 2 messages
}
