package sequintest_test

import (
	"fmt"
	"net/http"

	"github.com/sequin-go/sequin/sequintest"
)

// A test checks what a program has acked: the Requests have the deliveries that it got, and the ids that it sent back.
func ExampleRequest() {
	t := &exampleTB{} // in a test, use its testing.T
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)
	_, _ = post(client, srv.URL+"/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">"}`)
	_, _ = post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"4 apples"},{"key":"orders.2","data":"2 pears"}]}`)

	// The program under test receives both messages and acks the first.
	_, _ = post(client, srv.URL+"/api/streams/orders/consumers/billing/receive", `{"batch_size":10}`)
	first := srv.Requests(sequintest.Receive)[0].Deliveries()[0]
	_, _ = post(client, srv.URL+"/api/streams/orders/consumers/billing/ack", `{"ack_ids":["`+first.AckID+`"]}`)

	acked := map[string]bool{}
	for _, r := range srv.Requests(sequintest.Ack) {
		for _, id := range r.AckIDs() {
			acked[id] = r.Status == http.StatusOK
		}
	}
	for _, r := range srv.Requests(sequintest.Receive) {
		for _, d := range r.Deliveries() {
			fmt.Println(d.Key, d.Data, "acked:", acked[d.AckID])
		}
	}
	// Output:
	// orders.1 4 apples acked: true
	// orders.2 2 pears acked: false
}

// Match says which requests go wrong: here those that have a certain message, the first time.
func ExampleFault() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)

	srv.Fault(sequintest.Fault{
		Op:     sequintest.Send,
		Match:  func(r *sequintest.Request) bool { return r.Messages()[0].Key == "orders.2" },
		Count:  1,
		Status: http.StatusServiceUnavailable, Body: `{"summary":"busy"}`,
	})
	for _, key := range []string{"orders.1", "orders.2", "orders.2"} {
		fmt.Println(post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"`+key+`","data":"{}"}]}`))
	}
	// Output:
	// 200 OK {"data":{"published":1}} <nil>
	// 503 Service Unavailable {"summary":"busy"} <nil>
	// 200 OK {"data":{"published":1}} <nil>
}
