// Package backend finds the server for an example, or starts one.
package backend

import (
	"net"
	"os"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// Server is a running server.
type Server struct {
	URL   string
	Where string // describes the URL to a person
	Stop  func() // stops the server if Find has started it
}

// Find returns the server of $SEQUIN_URL. If that is not set, it starts one inside this process, on loopback.
func Find() (Server, error) {
	if url := os.Getenv("SEQUIN_URL"); url != "" {
		return Server{URL: url, Where: url + " ($SEQUIN_URL)", Stop: func() {}}, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Server{}, err
	}
	srv := server.New(server.Config{})
	web := srv.HTTPServer()
	go web.Serve(ln) // ends with web.Close
	url := "http://" + ln.Addr().String()
	return Server{URL: url, Where: url + ", in this process; $SEQUIN_URL names another",
		Stop: func() { srv.Close(); web.Close() }}, nil
}

// Connect finds the server and returns a client of it. Stop of the Server closes the client, too.
func Connect() (*sequin.Client, Server, error) {
	found, err := Find()
	if err != nil {
		return nil, Server{}, err
	}
	client, err := sequin.NewClient(sequin.Config{BaseURL: found.URL})
	if err != nil {
		found.Stop()
		return nil, Server{}, err
	}
	stop := found.Stop
	found.Stop = func() { client.Close(); stop() }
	return client, found, nil
}
