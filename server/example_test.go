package server_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

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

// A program serves the API beside its own pages, with its own http.Server.
func ExampleServer_own() {
	srv := server.New(server.Config{})
	defer srv.Close()
	mux := http.NewServeMux()
	mux.Handle("/api/streams", srv)
	mux.Handle("/api/streams/", srv)
	web := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
	go web.ListenAndServe()
	// Later:
	fmt.Println(web.Shutdown(context.Background())) // ends long polls at once
}
