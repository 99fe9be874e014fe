package sequintest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sequin-go/sequin/sequintest"
)

// exampleTB replaces the testing.T of a test.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (tb *exampleTB) Helper()                   {}
func (tb *exampleTB) Cleanup(f func())          { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (tb *exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (tb *exampleTB) end() {
	for _, f := range tb.cleanups {
		f()
	}
}

func post(client *http.Client, url, body string) (string, error) {
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(answer), err
}

func ExampleNewServer() {
	t := &exampleTB{} // in a test, use its testing.T
	defer t.end()

	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)
	fmt.Println(post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"{}"}]}`))

	state, _ := srv.Stream("orders")
	for _, m := range state.Messages {
		fmt.Println("stored:", m.Key)
	}
	// Output:
	// 200 OK {"data":{"published":1}} <nil>
	// stored: orders.1
}

// The answer to the first send is lost, so the client cannot know that the server has stored the message.
func ExampleServer_Fault() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)

	lost := srv.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Count: 1})
	_, err := post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"{}"}]}`)
	fmt.Println("the client saw an error:", err != nil)
	fmt.Println("hits:", lost.Hits())
	for _, r := range srv.Requests(sequintest.Send) {
		fmt.Println("the server acted:", r.Acted, r.Messages()[0].Key)
	}
	// Output:
	// the client saw an error: true
	// hits: 1
	// the server acted: true orders.1
}

// A long delay that the test removes makes a gate.
func ExampleFaultHandle_Remove() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})

	gate := srv.Fault(sequintest.Fault{Op: sequintest.CreateStream, Delay: time.Hour})
	answer := make(chan string)
	go func() {
		_, err := post(srv.Client(), srv.URL+"/api/streams", `{"name":"orders"}`)
		answer <- fmt.Sprint("created, error ", err)
	}()
	_ = gate.Wait(context.Background(), 1)
	fmt.Println("delayed, streams:", srv.Streams())
	gate.Remove()
	fmt.Println(<-answer)
	fmt.Println("streams:", srv.Streams())
	// Output:
	// delayed, streams: []
	// created, error <nil>
	// streams: [orders]
}

// Requests returns what the clients sent, and what they were answered.
func ExampleServer_Requests() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{})
	client := srv.Client()
	_, _ = post(client, srv.URL+"/api/streams", `{"name":"orders"}`)
	_, _ = post(client, srv.URL+"/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"4 apples"}]}`)
	_, _ = post(client, srv.URL+"/api/streams/pears/messages", `{"messages":[{"key":"orders.2","data":"2 pears"}]}`)

	for _, r := range srv.Requests(sequintest.Send) {
		for _, m := range r.Messages() {
			fmt.Println(r.Op, r.Path, m.Key, m.Data, r.Status)
		}
	}
	fmt.Println(srv.Count(sequintest.Any), "requests")
	// Output:
	// Send /api/streams/orders/messages orders.1 4 apples 200
	// Send /api/streams/pears/messages orders.2 2 pears 404
	// 3 requests
}

// Listen opens a port of the loopback interface, for clients in other processes.
func ExampleServer_Listen() {
	t := &exampleTB{}
	defer t.end()
	srv := sequintest.NewServer(t, sequintest.Config{Token: "s3cret"})
	answer, err := post(http.DefaultClient, srv.Listen()+"/api/streams", `{"name":"orders"}`)
	fmt.Println(answer[:16], err)
	// Output: 401 Unauthorized <nil>
}
