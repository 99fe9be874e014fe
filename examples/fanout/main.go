// Fanout sends one stream of real records three ways: a pipeline turns some of them into messages of a second stream, a
// batch handler writes some to a file, and a handler that cannot deal with all of its own sends those to the dead
// letters. In the end a table shows where everything has gone.
//
//	go run ./examples/fanout
//
// It needs nothing installed: the server runs inside. With $SEQUIN_URL set it uses that one.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/clocks"
	"github.com/sequin-go/sequin/server"
)

func main() {
	out := flag.String("out", filepath.Join(os.TempDir(), "europe.ndjson"), "the `file` that the batch handler writes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, out string) error {
	all, err := clocks.Records()
	if err != nil {
		return err
	}
	url, where, stopServer, err := findServer()
	if err != nil {
		return err
	}
	defer stopServer()
	client, err := sequin.NewClient(sequin.Config{BaseURL: url})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Printf("server   %s\ndata     %d records: every change of the world's clocks\nfile     %s\n\n", where, len(all), out)
	t, err := fanOut(ctx, client, all, out)
	if err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}

// findServer returns a server to use, and starts one where none is named.
func findServer() (url, where string, stop func(), err error) {
	if url := os.Getenv("SEQUIN_URL"); url != "" {
		return url, url + " ($SEQUIN_URL)", func() {}, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", nil, err
	}
	srv := server.New(server.Config{})
	web := srv.HTTPServer()
	go web.Serve(ln) // ends with web.Close
	url = "http://" + ln.Addr().String()
	return url, url + ", inside this process; set SEQUIN_URL to use another", func() { srv.Close(); web.Close() }, nil
}
