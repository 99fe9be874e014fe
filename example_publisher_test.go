package sequin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/sequin-go/sequin"
)

// Send buffers a message and returns. The Publisher sends the messages in batches, in the background.
func ExamplePublisher() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})

	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 5000 {
		if err := pub.Send(ctx, fmt.Sprintf("orders.cus_a.%d", i), `{"qty":4}`); err != nil {
			fmt.Println(err) // not accepted
			return
		}
	}
	fmt.Println("closed:", pub.Close(ctx))
	fmt.Println("sent:", pub.Stats().Sent)
	// Output:
	// closed: <nil>
	// sent: 5000
}

// SendMessage and TrySendMessage take a Message, as all ways of sending do but the short forms Send and TrySend.
func ExamplePublisher_SendMessage() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})

	fmt.Println(pub.SendMessage(ctx, sequin.Message{Key: "orders.cus_a.1", Data: `{"qty":4}`}))
	fmt.Println("closed:", pub.Close(ctx))
	// Output:
	// <nil>
	// closed: <nil>
}

// TrySendMessage never waits. It returns an error while the buffer is full.
func ExamplePublisher_TrySendMessage() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})

	if err := pub.TrySendMessage(sequin.Message{Key: "orders.cus_a.1", Data: `{"qty":4}`}); errors.Is(err, sequin.ErrBufferFull) {
		fmt.Println("try again later")
	}
	fmt.Println("closed:", pub.Close(ctx))
	// Output:
	// closed: <nil>
}

// SendJSON sends a value as JSON; DecodeJSON decodes it where it is delivered.
func ExamplePublisher_SendJSON() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})

	type order struct {
		Qty int `json:"qty"`
	}
	fmt.Println(pub.SendJSON(ctx, "orders.cus_a.1", order{Qty: 4}))
	fmt.Println("closed:", pub.Close(ctx))
	m, _ := client.GetMessage(ctx, "orders", "orders.cus_a.1")
	fmt.Println(m.Data)
	// Output:
	// <nil>
	// closed: <nil>
	// {"qty":4}
}

// EncodeJSON makes a Message of a value, for those ways of sending that take one.
func ExampleEncodeJSON() {
	m, err := sequin.EncodeJSON("orders.cus_a.1", map[string]int{"qty": 4})
	fmt.Println(m.Key, m.Data, err)
	// Output:
	// orders.cus_a.1 {"qty":4} <nil>
}

// A Receipt reports the final result of one message.
func ExamplePublisher_SendReceipt() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})
	defer pub.Close(ctx)

	receipt, err := pub.SendReceipt(ctx, sequin.Message{Key: "orders.cus_a.1", Data: `{"qty":4}`})
	fmt.Println("accepted:", err)
	fmt.Println("sent:", receipt.Wait(ctx))
	// Output:
	// accepted: <nil>
	// sent: <nil>
}

// SendAllSync returns when the server has stored all messages, or says which ones it has not.
func ExamplePublisher_SendAllSync() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pub.Close(ctx)
	err = pub.SendAllSync(ctx, []sequin.Message{{Key: "orders.1", Data: "4 apples"}, {Key: "two words", Data: "2 pears"}})
	var left *sequin.UnsentError
	if errors.As(err, &left) {
		for _, f := range left.Failed {
			fmt.Println(f.Message.Data, "was not sent:", errors.Is(f.Err, sequin.ErrInvalidKey))
		}
	}
	// Output: 2 pears was not sent: true
}

// Messages that cannot be sent before the program ends are saved to a file and sent at the next start.
func ExamplePublisher_Close_spool() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	spool := filepath.Join(dir, "orders.ndjson")

	// The server is unavailable.
	away := httptest.NewServer(nil)
	away.Close()
	client, _ := sequin.NewClient(sequin.Config{BaseURL: away.URL})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})
	for i := range 3 {
		_ = pub.Send(context.Background(), "orders.cus_a", fmt.Sprintf(`{"version":%d}`, i+1))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	n, err := save(spool, pub.Close(ctx))
	fmt.Println("spooled:", n, err)

	// At the next start it is available again.
	client, done := exampleClient()
	defer done()
	stream, _ := client.EnsureStream(context.Background(), "orders", sequin.StreamOptions{OneMessagePerKey: true})
	pub, _ = client.NewPublisher(stream.Name, sequin.PublisherConfig{})
	n, err = load(spool, pub)
	fmt.Println("loaded:", n, err)
	fmt.Println("closed:", pub.Close(context.Background()))
	m, _ := client.GetMessage(context.Background(), stream.Name, "orders.cus_a")
	fmt.Println(m.Key, m.Data)
	// Output:
	// spooled: 3 <nil>
	// loaded: 3 <nil>
	// closed: <nil>
	// orders.cus_a {"version":3}
}

// save writes the messages that Close left to a file, one message a line. It returns any other error as it is.
func save(path string, closed error) (n int, err error) {
	var unsent *sequin.UnsentError
	if !errors.As(closed, &unsent) {
		return 0, closed
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	encode := json.NewEncoder(f)
	for _, m := range unsent.Unsent {
		if err := encode.Encode(m); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	return len(unsent.Unsent), errors.Join(f.Sync(), f.Close())
}

// load sends the messages that save has written.
func load(path string, pub *sequin.Publisher) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	decode := json.NewDecoder(f)
	for ; ; n++ {
		var m sequin.Message
		if err := decode.Decode(&m); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if err := pub.SendMessage(context.Background(), m); err != nil {
			return n, err
		}
	}
}

// TrySend and TrySendMessage never wait. They return an error while the buffer is full, here because no server runs.
func ExamplePublisher_TrySend() {
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{MaxBuffered: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pub.TrySend("orders.cus_a.1", `{"qty":4}`))
	err = pub.TrySend("orders.cus_a.2", `{"qty":2}`)
	fmt.Println("full:", errors.Is(err, sequin.ErrBufferFull))

	ctx, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for the server
	var unsent *sequin.UnsentError
	if errors.As(pub.Close(ctx), &unsent) {
		fmt.Println("unsent:", unsent.Unsent[0].Key)
	}
	// Output:
	// <nil>
	// full: true
	// unsent: orders.cus_a.1
}

// SendSync returns when the server has the message. Flush returns when each message that was accepted before has a result.
func ExamplePublisher_Flush() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})

	fmt.Println(pub.SendSync(ctx, sequin.Message{Key: "orders.cus_a.1", Data: `{"qty":4}`}))
	for i := range 100 {
		_ = pub.Send(ctx, fmt.Sprintf("orders.cus_b.%d", i), `{"qty":1}`)
	}
	fmt.Println(pub.Flush(ctx))
	stats := pub.Stats()
	fmt.Println(stats.Sent, "sent,", stats.Buffered, "buffered")
	fmt.Println("closed:", pub.Close(ctx))
	// Output:
	// <nil>
	// <nil>
	// 101 sent, 0 buffered
	// closed: <nil>
}

// Done is closed when the result is known, for programs that wait for several things.
func ExampleReceipt_Done() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	_, _ = client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	pub, _ := client.NewPublisher("orders", sequin.PublisherConfig{})
	defer pub.Close(ctx)

	receipt, err := pub.SendReceipt(ctx, sequin.Message{Key: "orders.cus_a.1", Data: `{"qty":4}`})
	if err != nil {
		fmt.Println(err)
		return
	}
	select {
	case <-receipt.Done():
		fmt.Println("sent:", receipt.Err())
	case <-time.After(time.Minute):
		fmt.Println("still waiting")
	}
	// Output: sent: <nil>
}

// Headers carry what is not a part of the data. ErrUnsupported means that the server has none.
func ExamplePublisher_SendMessage_headers() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()

	if _, err := client.CreateStream(ctx, "orders", sequin.StreamOptions{}); err != nil {
		log.Fatal(err)
	}
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	m := sequin.Message{Key: "orders.1", Data: `{"qty":4}`, Headers: map[string]string{"trace-id": "4bf92f3577b34da6"}}
	if err := pub.SendMessage(ctx, m); err != nil {
		log.Fatal(err)
	}
	if err := pub.Close(ctx); err != nil {
		log.Fatal(err)
	}
	stored, err := client.GetMessage(ctx, "orders", "orders.1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored.Headers["trace-id"], stored.Data)
	// Output: 4bf92f3577b34da6 {"qty":4}
}
