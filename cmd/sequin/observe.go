package main

import (
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/observe"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/cmd/sequin/internal/target"
)

func newObserve(w world) *cobra.Command {
	var flags target.Flags
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "observe [flags]",
		Short: "Show what happens on a server, in a terminal",
		Long: `Show the streams of a server with what goes in and out, their consumers with what
is stuck and since when, and messages with their state at each consumer. It can
send a test message, nack, redrive and purge, and make and delete streams and
consumers. "?" lists the keys.

Rates of deliveries and backlogs come from the metrics of the server. Without
them, as with the server of 2024, there are fewer columns. The token needs the
right to read, and those of what is done.`,
		Args: arguments(0),
	}
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often the server is asked, from 500ms on")
	flags.Register(cmd.Flags())
	completeContextFlag(w, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if every < 500*time.Millisecond {
			return cli.Usage("invalid --every %v: it must be at least 500ms", every)
		}
		to, err := flags.Find(w.lookup)
		if err != nil {
			return err
		}
		if !isTerminal(w.in) || !isTerminal(w.out) {
			return cli.Usage(`observe needs a terminal: "sequin stream ls --json" is for programs`)
		}
		client, err := to.Client(w.transport)
		if err != nil {
			return err
		}
		defer client.Close()
		network, closeNetwork := w.network()
		defer closeNetwork()
		ctx, stop := untilSignal(w)
		defer stop()
		watcher := overview.New(overview.Config{
			Client: client, Metrics: overview.HTTPMetrics(&http.Client{Transport: network}, to.URL, to.Token), MinInterval: every / 2,
		})
		return to.Explain(observe.Run(ctx, observe.Config{Client: client, Watcher: watcher, URL: to.URL, Every: every, Now: w.now}, w.in, w.out, os.Environ()))
	}
	return cmd
}

// isTerminal reports whether a stream of the world is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
