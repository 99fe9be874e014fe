package server_test

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// A program embeds the server on a port of the loopback interface, and shuts it down like any web server: the long polls of
// its Subscribers end at once.
func ExampleServer_HTTPServer() {
	fmt.Println(embed(context.Background()))
	// Output: orders
	// http: Server closed
}

func embed(ctx context.Context) error {
	srv := server.New(server.Config{})
	web := srv.HTTPServer()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go web.Serve(listener)
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://" + listener.Addr().String()})
	if err != nil {
		return err
	}
	defer client.Close()
	stream, err := client.EnsureStream(ctx, "orders", sequin.StreamOptions{})
	if err != nil {
		return err
	}
	fmt.Println(stream.Name)
	if err := web.Shutdown(ctx); err != nil {
		return err
	}
	return web.Serve(listener)
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
