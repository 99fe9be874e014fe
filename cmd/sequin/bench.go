package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/load"
	"github.com/sequin-go/sequin/cmd/sequin/internal/progress"
)

const (
	// benchStream is the stream of bench by default. The server of 2024 takes no dashes.
	benchStream = "sequin_bench"
	// tidyFor is how long it may take to add and to remove that stream, which a signal does not stop.
	tidyFor = 10 * time.Second
)

const benchLong = `Measure a server. Three parts run one after the other, or only those that are
named:

  publish     sends --messages as fast as possible; the latency is that of the
              requests, each with a batch of messages
  consume     receives and acks these messages as fast as possible
  end-to-end  sends --rate messages a second for the time of --for, while they
              are received and acked; the latency is from the moment at which a
              message is due to be sent to its delivery

P50, P95 and P99 are the latencies that 50, 95 and 99 percent did not exceed.

The messages go through a stream of their own, which is removed at the end, also
after ctrl-C. A stream that exists is left alone. The figures are those of the
server, the network and this program together: run it on another machine than
the server to see what the server can do.`

// bench is a command that measures a server.
type bench struct {
	*session
	cfg    load.Config
	size   cli.Size
	stream string
}

func newBench(w world) *cobra.Command {
	b := &bench{size: 128}
	cmd := online(w, b.command(), func(ctx context.Context, s *session, args []string) error {
		b.session = s
		return b.run(ctx, args)
	})
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		for _, part := range load.Parts {
			if !slices.Contains(args, string(part)) {
				names = append(names, string(part))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (b *bench) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench [publish] [consume] [end-to-end] [flags]",
		Short: "Measure how many messages a second a server takes and delivers",
		Long:  benchLong,
		Example: `  sequin bench
  sequin bench publish --messages 1000000 --size 1kB --publishers 4
  sequin bench end-to-end --rate 5000 --for 1m`,
		Args: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if !slices.Contains(load.Parts, load.Part(arg)) {
					return cli.Usage("unexpected argument %q: usage is %q", arg, cmd.UseLine())
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&b.cfg.Messages, "messages", 100_000, "`number` of messages of publish and consume")
	flags.Var(&b.size, "size", "bytes of data in a message, such as 128 or 10kB")
	flags.IntVar(&b.cfg.Publishers, "publishers", 1, "`number` of publishers that send at once, each with connections of its own")
	flags.IntVar(&b.cfg.Subscribers, "subscribers", 1, "`number` of subscribers that receive at once, each with connections of its own")
	flags.IntVar(&b.cfg.Rate, "rate", 1000, "`number` of messages a second of end-to-end")
	flags.DurationVar(&b.cfg.For, "for", 5*time.Second, "how long end-to-end sends")
	flags.StringVar(&b.stream, "stream", benchStream, "`name` of the stream to add and to remove")
	return cmd
}

func (b *bench) run(ctx context.Context, args []string) (err error) {
	b.cfg.Size = int(b.size)
	if b.size >= sequin.MaxRequestBytes {
		return cli.Usage("invalid --size %s: a request has at most %s", b.size.String(), cli.Bytes(sequin.MaxRequestBytes))
	}
	parts := load.Parts
	if len(args) > 0 {
		parts = nil
		for _, arg := range args {
			parts = append(parts, load.Part(arg))
		}
	}
	stream, err := b.add(ctx)
	if err != nil {
		return err
	}
	b.cfg.Stream, b.cfg.Connect, b.cfg.Progress = stream.ID, b.connect, b.progress
	results, err := load.Run(ctx, b.cfg, parts)
	if ctx.Err() != nil {
		err = errors.New("stopped by a signal")
	}
	err = errors.Join(err, b.remove(ctx, stream))
	if len(results) < len(parts) && err != nil {
		return err
	}
	return errors.Join(b.print(results), err)
}

// add adds the stream. A signal does not stop it, because the stream could be left.
func (b *bench) add(ctx context.Context) (*sequin.Stream, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyFor)
	defer cancel()
	_, err := b.client.GetStream(ctx, b.stream)
	if err == nil {
		return nil, fmt.Errorf("there is a stream %q: if it was left by a bench that was killed, run \"sequin stream rm %s --force\", else choose another --stream",
			b.stream, b.stream)
	}
	if !errors.Is(err, sequin.ErrNotFound) {
		return nil, err
	}
	stream, err := b.client.CreateStream(ctx, b.stream, sequin.StreamOptions{})
	if errors.Is(err, sequin.ErrOutcomeUnknown) {
		return nil, fmt.Errorf("%w: if the stream %q is there, remove it", err, b.stream)
	}
	return stream, err
}

func (b *bench) remove(ctx context.Context, stream *sequin.Stream) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyFor)
	defer cancel()
	err := b.client.DeleteStream(ctx, stream.ID)
	if err == nil || errors.Is(err, sequin.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("the stream is left: run \"sequin stream rm %s --force\": %w", stream.Name, err)
}

// connect returns a client with connections of its own.
func (b *bench) connect(wrap func(http.RoundTripper) http.RoundTripper) (*sequin.Client, func(), error) {
	network, closeNetwork := b.network()
	client, err := b.target.Client(wrap(network))
	if err != nil {
		closeNetwork()
	}
	return client, closeNetwork, err
}

func (b *bench) progress(part load.Part, messages int, done func() int64) (stop func()) {
	bar := progress.Start(b.errors, b.terminal && !b.json, string(part)+" messages", func() progress.State {
		n := done()
		return progress.State{Count: n, Part: float64(n) / float64(messages)}
	})
	return bar.Stop
}

// benchResult is a result as --json prints it. Latencies are in milliseconds.
type benchResult struct {
	Part              load.Part     `json:"part"`
	Messages          int           `json:"messages"`
	Size              int           `json:"size"`
	Clients           int           `json:"clients"`
	Seconds           float64       `json:"seconds"`
	MessagesPerSecond float64       `json:"messages_per_second"`
	LatencyMS         *benchLatency `json:"latency_ms,omitempty"`
}

type benchLatency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (b *bench) print(results []load.Result) error {
	list := []benchResult{}
	var rows [][]string
	for _, r := range results {
		result := benchResult{r.Part, r.Messages, b.cfg.Size, r.Clients, r.Took.Seconds(), perSecond(r.Messages, r.Took), nil}
		row := []string{string(r.Part), fmt.Sprint(r.Messages), fmt.Sprint(r.Clients), short(r.Took), fmt.Sprintf("%.0f", result.MessagesPerSecond),
			cli.Bytes(int64(result.MessagesPerSecond * float64(b.cfg.Size)))}
		if len(r.Latencies) > 0 {
			at := func(p float64) float64 { return float64(r.Latencies.Percentile(p)) / float64(time.Millisecond) }
			result.LatencyMS = &benchLatency{at(50), at(95), at(99), at(100)}
			for _, p := range []float64{50, 95, 99, 100} {
				row = append(row, short(r.Latencies.Percentile(p)))
			}
		} else {
			row = append(row, "-", "-", "-", "-")
		}
		list, rows = append(list, result), append(rows, row)
	}
	if b.json {
		return cli.JSON(b.out, list)
	}
	return cli.Table(b.out, []string{"PART", "MESSAGES", "CLIENTS", "TIME", "MESSAGES/S", "DATA/S", "P50", "P95", "P99", "MAX"}, rows, "")
}

func perSecond(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

// short returns a duration with about three digits.
func short(d time.Duration) string {
	for unit := time.Second; unit > 1; unit /= 1000 {
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.String()
}
