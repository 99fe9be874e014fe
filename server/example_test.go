package server_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// A program embeds the server on a port of the loopback interface, and shuts it down like any web server: the long polls of
// its Subscribers end at once.
func ExampleServer_HTTPServer() {
	ctx := context.Background()
	url, stop, err := embed()
	if err != nil {
		log.Fatal(err)
	}
	client, err := sequin.NewClient(sequin.Config{BaseURL: url})
	if err != nil {
		log.Fatal(err)
	}
	stream, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	fmt.Println(stream.Name, err)
	fmt.Println(stop(ctx))
	_, err = client.ListStreams(ctx)
	fmt.Println(errors.Is(err, sequin.ErrUnreachable))
	// Output:
	// orders <nil>
	// <nil>
	// true
}

// embed starts the server on a free port. stop ends its long polls, and waits for other requests.
func embed() (url string, stop func(context.Context) error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := server.New(server.Config{}).HTTPServer()
	go web.Serve(listener)
	return "http://" + listener.Addr().String(), web.Shutdown, nil
}

// A program serves the API beside its own pages, with its own http.Server. Shutdown of it ends long polls at once.
func ExampleServer_own() {
	srv := server.New(server.Config{Token: "s3cret"})
	defer srv.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/streams", srv)
	mux.Handle("/api/streams/", srv)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a page") })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	web := &http.Server{Handler: mux}
	go web.Serve(listener)

	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://" + listener.Addr().String(), Token: "s3cret"})
	if err != nil {
		log.Fatal(err)
	}
	stream, err := client.EnsureStream(context.Background(), "orders", sequin.StreamOptions{})
	fmt.Println(stream.Name, err)
	fmt.Println(web.Shutdown(context.Background()))
	// Output:
	// orders <nil>
	// <nil>
}

// Inspect shows what the server holds, without a request. Drain prepares a stop: every later request may be sent again.
func ExampleServer_Inspect() {
	srv := server.New(server.Config{OnRequest: func(r server.RequestInfo) { fmt.Println(r.Route, r.Status) }})
	defer srv.Close()
	ask := func(method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		srv.ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("POST", "/api/streams", `{"name":"orders"}`)
	ask("POST", "/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"4 apples"}]}`)

	fmt.Println(srv.Streams(), srv.Load().Requests, "requests run")
	orders, _ := srv.Inspect("orders")
	for _, m := range orders.Messages {
		fmt.Println(m.Seq, m.Key, m.Data)
	}
	fmt.Println(srv.Drain(context.Background()))
	ask("GET", "/readyz", "")
	// Output:
	// POST api/streams 200
	// POST api/streams/*/messages 200
	// [orders] 0 requests run
	// 1 orders.1 4 apples
	// <nil>
	// GET readyz 503
}

// Each token has its rights. The clients of the web server send, and nothing else.
func ExampleRights() {
	tokens := map[string]server.Rights{}
	for token, text := range map[string]string{"operator": "read,send,consume,admin", "web": "send"} {
		rights, ok := server.ParseRights(text)
		if !ok {
			log.Fatal(text)
		}
		tokens[token] = rights
	}
	srv := server.New(server.Config{Access: func(token string) server.Rights { return tokens[token] }})
	defer srv.Close()
	ask := func(token, method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		fmt.Println(method, path, w.Code)
	}
	ask("operator", "POST", "/api/streams", `{"name":"orders"}`)
	ask("web", "POST", "/api/streams/orders/messages", `{"messages":[{"key":"orders.1","data":"4 apples"}]}`)
	ask("web", "DELETE", "/api/streams/orders", "")
	ask("somebody", "GET", "/api/streams", "")
	// Output:
	// POST /api/streams 200
	// POST /api/streams/orders/messages 200
	// DELETE /api/streams/orders 403
	// GET /api/streams 401
}

// A test finds out how a client works with a server that has no extensions: WithoutExtensions switches them off.
func ExampleExtensions() {
	for _, off := range [][]string{nil, server.Extensions()} {
		srv := server.New(server.Config{WithoutExtensions: off})
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, httptest.NewRequest("GET", "/api/streams", nil))
		fmt.Println(strings.Contains(w.Header().Get("Sequin-Extensions"), "nack-delay"))
		srv.Close()
	}
	// Output:
	// true
	// false
}
