// Fanout consumes one stream of real records in three ways. A pipeline makes messages of a second stream from some of them,
// a batch handler writes some to a file, and a handler that cannot handle all of its records sends those to a dead-letter
// stream. At the end a table shows where every record went.
//
//	go run ./examples/fanout
//
// Nothing has to be installed: the server runs inside the process. If $SEQUIN_URL is set, that server is used instead, with
// the token of $SEQUIN_TOKEN. The batch handler writes europe.ndjson in the working directory, or the file of -out.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/sequin-go/sequin/examples/internal/backend"
	"github.com/sequin-go/sequin/examples/internal/clocks"
	"github.com/sequin-go/sequin/examples/internal/command"
)

var fanout = command.Command{Name: "fanout", Usage: "[-out FILE]", About: `Consumes one stream of real records in three ways. The server runs inside the
process, or is that of $SEQUIN_URL and $SEQUIN_TOKEN.
`}

func main() {
	flags := flag.NewFlagSet("fanout", flag.ContinueOnError)
	out := flags.String("out", "europe.ndjson", "the `FILE` that the batch handler writes")
	if err := fanout.Parse(flags, os.Args[1:], os.Stderr); err != nil {
		os.Exit(command.ExitCode(err))
	}
	os.Exit(fanout.Run(os.Stderr, func(ctx context.Context) error { return run(ctx, *out) }))
}

func run(ctx context.Context, out string) error {
	all, err := clocks.Records()
	if err != nil {
		return err
	}
	client, srv, err := backend.Connect()
	if err != nil {
		return err
	}
	defer srv.Stop()
	fmt.Printf("server   %s\ndata     %d records: every change of the world's clocks\nfile     %s\n\n", srv.Where, len(all), out)
	t, err := fanOut(ctx, client, all, out)
	if err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}
