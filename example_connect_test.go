package sequin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// connect trusts the certificate authority of a file. It reads the token from another file, which may change.
func connect(url, caFile, tokenFile string) (*sequin.Client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", caFile)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	transport.MaxIdleConnsPerHost = 32 // with the default of 2, most requests under load would dial
	return sequin.NewClient(sequin.Config{
		BaseURL:    url,
		HTTPClient: &http.Client{Transport: transport},
		TokenSource: func(context.Context) (string, error) { // is called again after a 401
			token, err := os.ReadFile(tokenFile)
			return strings.TrimSpace(string(token)), err
		},
	})
}

// A server with TLS and a token.
func ExampleNewClient_tls() {
	srv := server.New(server.Config{Token: "s3cret"})
	web := httptest.NewTLSServer(srv)
	defer func() { srv.Close(); web.Close() }()
	dir, err := os.MkdirTemp("", "sequin")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	caFile, tokenFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := errors.Join(os.WriteFile(caFile, ca, 0o600), os.WriteFile(tokenFile, []byte("s3cret\n"), 0o600)); err != nil {
		log.Fatal(err)
	}

	client, err := connect(web.URL, caFile, tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	stream, err := client.EnsureStream(context.Background(), "orders", sequin.StreamOptions{})
	fmt.Println(stream.Name, err)
	// Output: orders <nil>
}

// prepare makes sure that what the program needs exists.
func prepare(ctx context.Context, client *sequin.Client) error {
	if _, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{OneMessagePerKey: true}); err != nil {
		return err
	}
	_, err := client.EnsureConsumer(ctx, "orders", "billing", "orders.>", sequin.ConsumerOptions{
		AckWait:       time.Minute, // several times what the slowest message takes
		MaxAckPending: 1_000_000,   // more than the messages of five minutes: see below
	})
	return err
}

// A second call finds what the first one has created. An option that differs is an error.
func ExampleClient_EnsureConsumer() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	fmt.Println(prepare(ctx, client), prepare(ctx, client))

	consumer, err := client.EnsureConsumer(ctx, "orders", "billing", "orders.>", sequin.ConsumerOptions{AckWait: time.Second})
	fmt.Println(consumer.AckWait, errors.Is(err, sequin.ErrMismatch))
	fmt.Println(err)
	// Output:
	// <nil> <nil>
	// 1m0s true
	// sequin: exists with other settings: consumer "billing": ack_wait is 1m0s, not 1s
}

// ready is for the readiness probe of a program.
func ready(ctx context.Context, client *sequin.Client, pub *sequin.Publisher, sub *sequin.Subscriber) error {
	_, err := client.GetStream(ctx, "orders") // reaches the server, and the token is accepted
	return errors.Join(err, pub.Stats().Refusal, sub.Err())
}

// A program is ready while its stream can be read, the Publisher is not refused and the Subscriber runs.
func ExampleSubscriber_Err() {
	ctx := context.Background()
	client, stop := exampleServer(ctx)
	defer stop()
	pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
	if err != nil {
		log.Fatal(err)
	}
	sub, err := client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready:", ready(ctx, client, pub, sub))

	if err := client.DeleteConsumer(ctx, "orders", "billing"); err != nil {
		log.Fatal(err)
	}
	for range sub.Deliveries() {
	}
	fmt.Println("ready:", errors.Is(ready(ctx, client, pub, sub), sequin.ErrNotFound))
	fmt.Println(sub.Close(ctx), pub.Close(ctx))
	// Output:
	// ready: <nil>
	// ready: true
	// <nil> <nil>
}
