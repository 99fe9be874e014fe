package durable_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// A server with a store keeps its streams, consumers and messages in a directory. A program that starts again finds them
// there. The store is closed after the server.
func ExampleOpen() {
	temporary, err := os.MkdirTemp("", "sequin")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	dir := filepath.Join(temporary, "data")

	start := func() (client *sequin.Client, stop func() error) {
		store, err := durable.Open(dir, durable.Options{})
		if err != nil {
			log.Fatal(err)
		}
		srv := server.New(server.Config{Store: store})
		web := httptest.NewServer(srv)
		client, err = sequin.NewClient(sequin.Config{BaseURL: web.URL})
		if err != nil {
			log.Fatal(err)
		}
		return client, func() error { client.Close(); srv.Close(); web.Close(); return store.Close() }
	}

	ctx := context.Background()
	client, stop := start()
	_, err = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	fmt.Println(err)
	sent, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples")
	fmt.Println(sent.Published, err)
	fmt.Println(stop())

	client, stop = start()
	m, err := client.GetMessage(ctx, "orders", "orders.1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Key, m.Data)
	fmt.Println(stop())
	report, err := durable.Check(ctx, dir)
	fmt.Println(len(report.Faults), "faults", err)
	// Output:
	// <nil>
	// 1 <nil>
	// <nil>
	// orders.1 4 apples
	// <nil>
	// 0 faults <nil>
}
