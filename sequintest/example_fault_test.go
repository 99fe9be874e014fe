package sequintest_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/sequin-go/sequin/sequintest"
)

// A test waits until a request has met a fault. Afterwards the server answers again, because the fault has a Count.
func ExampleFaultHandle_Wait() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})

	busy := srv.Fault(sequintest.Fault{Op: sequintest.CreateStream, Status: http.StatusServiceUnavailable, Body: `{"summary":"busy"}`, Count: 1})
	refused := make(chan string)
	go func() {
		answer, _ := post(srv.Client(), srv.URL+"/api/streams", `{"name":"orders"}`)
		refused <- answer
	}()
	fmt.Println(busy.Wait(context.Background(), 1))
	_, err := post(srv.Client(), srv.URL+"/api/streams", `{"name":"orders"}`)
	fmt.Println(srv.Streams(), err)
	fmt.Println(<-refused)
	fmt.Println(busy.Wait(context.Background(), 2)) // returns at once
	// Output:
	// <nil>
	// [orders] <nil>
	// 503 Service Unavailable {"summary":"busy"}
	// sequintest: waiting for 2 hits of a fault with Count 1
}

// Count tells how many requests of an operation a program has made, whether they succeeded or not.
func ExampleServer_Count() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)
	for range 3 {
		_, _ = post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"{}"}]}`)
	}
	fmt.Println(srv.Count(sequintest.Send), "sends of", srv.Count(sequintest.Any), "requests")
	// Output:
	// 3 sends of 4 requests
}

// A connection is reset while its request waits for an answer. The server stays up, and its data is what it was.
func ExampleServer_CutConnections() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	_, _ = post(srv.Client(), srv.URL+"/api/streams", `{"name":"orders"}`)

	slow := srv.Fault(sequintest.Fault{Op: sequintest.Send, DelayAfter: time.Hour, Count: 1})
	lost := make(chan error)
	go func() {
		_, err := post(srv.Client(), srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"{}"}]}`)
		lost <- err
	}()
	_ = slow.Wait(context.Background(), 1)
	srv.CutConnections()
	fmt.Println("the send has failed:", <-lost != nil)
	state, _ := srv.Stream("orders")
	fmt.Println("stored:", len(state.Messages))
	// Output:
	// the send has failed: true
	// stored: 1
}
