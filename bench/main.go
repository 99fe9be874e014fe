// Bench measures what the library costs, in one run on one machine, and against what a user would pick instead.
//
//	go -C bench run .            # everything, some ten minutes; writes results/*.json and *.svg
//	go -C bench run . -quick     # a look: one round of small counts, nothing is written
//
// Rates are messages a second, medians of several rounds whose contenders take turns, so that whatever else the machine
// does hits all of them. Read the ratios: the figures themselves are this machine's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// options of a run.
type options struct {
	rounds int
	counts map[int]int // messages a measurement, by size
	quick  bool
	out    string
}

func main() {
	quick := flag.Bool("quick", false, "one round of small counts; nothing is written")
	rounds := flag.Int("rounds", 5, "rounds, of which the median counts")
	out := flag.String("out", "results", "folder for JSON and plots")
	only := flag.String("only", "", "one part alone: rates, latency, axes, knobs or json; the figures of the others are kept")
	flag.Parse()
	opts := options{rounds: *rounds, out: *out, quick: *quick, counts: map[int]int{100: 100_000, 1 << 10: 50_000, 10 << 10: 10_000}}
	if *quick {
		opts.rounds, opts.counts = 1, map[int]int{100: 10_000, 1 << 10: 5_000, 10 << 10: 1_000}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, opts, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options, only string) error {
	file := filepath.Join(opts.out, "results.json")
	all, err := startResults(file, opts.rounds, only != "")
	if err != nil {
		return err
	}
	fmt.Printf("%s, median of %d rounds\n", all.Machine, opts.rounds)
	for _, part := range []struct {
		name string
		run  func(context.Context, options, *results) error
	}{{"rates", measureRates}, {"latency", measureLatency}, {"axes", measureAxes}, {"knobs", measureKnobs}, {"json", measureJSON}} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.run(ctx, opts, all); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if opts.quick {
		return nil
	}
	if err := os.MkdirAll(opts.out, 0o755); err != nil {
		return err
	}
	if err := all.write(file); err != nil {
		return err
	}
	return all.plot(opts.out)
}
