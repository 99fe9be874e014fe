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
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/clocks"
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
	srv, err := backend.Find()
	if err != nil {
		return err
	}
	defer srv.Stop()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Printf("server   %s\ndata     %d records: every change of the world's clocks\nfile     %s\n\n", srv.Where, len(all), out)
	t, err := fanOut(ctx, client, all, out)
	if err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}
