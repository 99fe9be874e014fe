// Bench measures the rates and latencies of the library, and of what a user could choose instead, in one run on one machine.
//
//	go -C bench run .            # everything, in about half an hour; writes results/*.json, *.svg and a part of the README
//	go -C bench run . -quick     # one round with few messages; writes nothing
//
// Rates are in messages per second, as medians of several rounds. The contenders take turns in each round, so that other
// load on the machine affects all of them. Compare the ratios: the figures are those of one machine.
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
	rounds   int
	counts   map[int]int // messages in a measurement, by size in bytes
	quick    bool
	out      string
	readme   string
	openings []int // messages in a directory that is opened
	keys     int   // in a stream on Postgres with one message per key
}

func main() {
	quick := flag.Bool("quick", false, "one round with few messages; writes nothing")
	rounds := flag.Int("rounds", 5, "number of rounds; the result is their median")
	out := flag.String("out", "results", "directory for the results and plots")
	only := flag.String("only", "", "measure only one part: rates, latency, axes, growth, sinks, knobs, link, json, disk, opening or postgres; the figures of the others are kept")
	readme := flag.String("readme", "../README.md", "README that gets the tables of the stores; empty for none")
	child := flag.String("serve", "", "serve -dir as this kind of server until killed; the command starts itself so to measure openings")
	dir := flag.String("dir", "", "directory of -serve")
	flag.Parse()
	if *child != "" {
		fail(serveChild(*child, *dir))
		return
	}
	opts := options{rounds: *rounds, out: *out, readme: *readme, quick: *quick,
		counts: map[int]int{100: 100_000, 1 << 10: 50_000, 10 << 10: 10_000}, openings: []int{1_000_000, 10_000_000}, keys: 1_000_000,
	}
	if *quick {
		opts.rounds, opts.counts = 1, map[int]int{100: 10_000, 1 << 10: 5_000, 10 << 10: 1_000}
		opts.openings, opts.keys = []int{100_000}, 20_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fail(run(ctx, opts, *only))
}

// fail ends the process when there is an error.
func fail(err error) {
	if err != nil {
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
	}{{"rates", measureRates}, {"latency", measureLatency}, {"axes", measureAxes}, {"growth", measureGrowth}, {"sinks", measureSinks}, {"knobs", measureKnobs}, {"link", measureLink}, {"json", measureJSON}, {"disk", measureDisk}, {"opening", measureOpenings}, {"postgres", measurePostgres}} {
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
	if opts.readme != "" {
		if err := all.writeReadme(opts.readme); err != nil {
			return err
		}
	}
	return all.plot(opts.out)
}
