package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// A server with a store keeps its streams, consumers and messages in a directory. A program that starts again finds them
// there. The store is closed after the server.
func ExampleStore() {
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

// A disk has changed a byte of a message. The store does not open any more, and Repair saves the rest into another directory.
func ExampleRepair() {
	temporary, err := os.MkdirTemp("", "sequin")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	dir, repaired := filepath.Join(temporary, "data"), filepath.Join(temporary, "repaired")
	if err := sendTo(dir, "4 apples", "2 pears", "1 plum"); err != nil {
		log.Fatal(err)
	}
	segment := filepath.Join(dir, "00000001.seg")
	b, err := os.ReadFile(segment)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(segment, bytes.Replace(b, []byte("2 pears"), []byte("9 pears"), 1), 0o600); err != nil {
		log.Fatal(err)
	}

	_, err = durable.Open(dir, durable.Options{})
	fmt.Println("damaged:", errors.Is(err, durable.ErrDamaged))
	report, err := durable.Repair(context.Background(), dir, repaired)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range report.Streams {
		fmt.Println(s.Name, "has", s.Messages, "messages and has lost", s.Lost)
	}
	report, err = durable.Check(context.Background(), repaired)
	fmt.Println(len(report.Faults), "faults", err)
	// Output:
	// damaged: true
	// orders has 2 messages and has lost [{2 2}]
	// 0 faults <nil>
}

// sendTo sends messages to the stream orders of a store in a directory, which it creates.
func sendTo(dir string, data ...string) error {
	store, err := durable.Open(dir, durable.Options{})
	if err != nil {
		return err
	}
	srv := server.New(server.Config{Store: store})
	web := httptest.NewServer(srv)
	defer func() { srv.Close(); web.Close() }()
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.CreateStream(context.Background(), "orders", sequin.StreamOptions{}); err != nil {
		return err
	}
	for i, d := range data {
		if _, err := client.SendMessage(context.Background(), "orders", fmt.Sprint("orders.", i), d); err != nil {
			return err
		}
	}
	return store.Close()
}

// A backup is made while the store is used. SyncEvery makes sends quicker; a loss of power may then cost those of that time.
func ExampleBackup() {
	temporary, err := os.MkdirTemp("", "sequin")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	dir, copied := filepath.Join(temporary, "data"), filepath.Join(temporary, "copy")
	ctx := context.Background()
	store, err := durable.Open(dir, durable.Options{Sync: durable.SyncEvery(100 * time.Millisecond)})
	if err != nil {
		log.Fatal(err)
	}
	srv := server.New(server.Config{Store: store})
	web := httptest.NewServer(srv)
	defer func() { srv.Close(); web.Close(); store.Close() }()
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	if _, err := client.SendMessage(ctx, "orders", "orders.1", "4 apples"); err != nil {
		log.Fatal(err)
	}

	report, err := durable.Backup(ctx, dir, copied)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range report.Streams {
		fmt.Println(s.Name, "has", s.Messages, "messages,", len(report.Faults), "faults")
	}
	// Output:
	// orders has 1 messages, 0 faults
}
