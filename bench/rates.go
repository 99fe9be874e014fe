package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sequin-go/sequin/server"
)

// The names of the contenders and of the parts.
const (
	limitName   = "plain net/http"
	libraryName = "sequin"
	singleName  = "one request per message"
	peerName    = "JetStream, memory"
	aloneName   = "client alone"
	wholeName   = "with its server"
	linkName    = "over a link"
)

// contender measures one cell of a table: how long n messages of a size take.
type contender struct {
	part, work, name string
	run              func(ctx context.Context, n, size int) (time.Duration, error)
}

// minMeasured is the least time a cell is measured in each round. Short runs are repeated until it is reached, because a
// single run of a fast contender takes too little time to be measured.
const minMeasured = 300 * time.Millisecond

// maxSingles is the largest number of messages when each takes requests of its own. More would take a minute per round, and
// the rate does not depend on it.
const maxSingles = 5_000

// rate measures one cell once.
func (c contender) rate(ctx context.Context, n, size int) (perSecond float64, err error) {
	if c.name == singleName {
		n = min(n, maxSingles)
	}
	total, runs := time.Duration(0), 0
	for total < minMeasured {
		runtime.GC() // so that garbage of earlier runs is not collected in this one
		took, err := c.run(ctx, n, size)
		if err != nil {
			return 0, fmt.Errorf("%s, %s, %s: %w", c.part, c.work, c.name, err)
		}
		total += took
		runs++
	}
	return float64(runs*n) / total.Seconds(), nil
}

// contenders are measured in this order in each round.
func contenders() []contender {
	withStub := func(run func(context.Context, string, int, int) (time.Duration, error)) func(context.Context, int, int) (time.Duration, error) {
		return func(ctx context.Context, n, size int) (time.Duration, error) {
			url, stop, err := serve(stubOf(size, false))
			if err != nil {
				return 0, err
			}
			defer stop()
			return run(ctx, url, n, size)
		}
	}
	// A consume is measured on messages that were published before the clock starts.
	withServer := func(fill bool, run func(context.Context, string, int, int) (time.Duration, error)) func(context.Context, int, int) (time.Duration, error) {
		return func(ctx context.Context, n, size int) (time.Duration, error) {
			return onServer(ctx, n, size, fill, run)
		}
	}
	withJetStream := func(storage jetstream.StorageType, fill bool, run func(*peer, context.Context, int, int) (time.Duration, error)) func(context.Context, int, int) (time.Duration, error) {
		return func(ctx context.Context, n, size int) (time.Duration, error) {
			p, err := newPeer(ctx, peerOptions{storage: storage})
			if err != nil {
				return 0, err
			}
			defer p.close()
			if fill {
				if _, err := p.publish(ctx, n, size); err != nil {
					return 0, err
				}
			}
			return run(p, ctx, n, size)
		}
	}
	library := settings{}
	all := []contender{
		{aloneName, "publish", limitName, withStub(publishPlain)},
		{aloneName, "publish", libraryName, withStub(library.publish)},
		{aloneName, "publish", singleName, withStub(publishOneByOne)},
		{aloneName, "consume", limitName, withStub(consumePlain)},
		{aloneName, "consume", libraryName, withStub(library.consume)},
		{aloneName, "consume", singleName, withStub(consumeOneByOne)},
		{wholeName, "publish", libraryName, withServer(false, library.publish)},
		{wholeName, "publish", singleName, withServer(false, publishOneByOne)},
		{wholeName, "consume", libraryName, withServer(true, library.consume)},
		{wholeName, "consume", singleName, withServer(true, consumeOneByOne)},
		{wholeName, "end to end", libraryName, withServer(false, library.both)},
	}
	for _, storage := range []jetstream.StorageType{jetstream.MemoryStorage, jetstream.FileStorage} {
		all = append(all,
			contender{wholeName, "publish", storageName(storage), withJetStream(storage, false, (*peer).publish)},
			contender{wholeName, "consume", storageName(storage), withJetStream(storage, true, (*peer).consume)},
			contender{wholeName, "end to end", storageName(storage), withJetStream(storage, false, (*peer).both)})
	}
	return all
}

// onServer runs a measurement against a new embedded server. With fill, n messages are published before.
func onServer(ctx context.Context, n, size int, fill bool, run func(context.Context, string, int, int) (time.Duration, error)) (time.Duration, error) {
	return onStream(ctx, false, func(ctx context.Context, url string) (time.Duration, error) {
		if fill {
			if _, err := (settings{}).publish(ctx, url, n, size); err != nil {
				return 0, err
			}
		}
		return run(ctx, url, n, size)
	})
}

// onStream runs a measurement against a new embedded server with an empty stream.
func onStream(ctx context.Context, keyed bool, run func(ctx context.Context, url string) (time.Duration, error)) (time.Duration, error) {
	srv := server.New(server.Config{})
	url, stop, err := serve(srv)
	if err != nil {
		return 0, err
	}
	defer stop()
	defer srv.Close()
	if err := prepare(ctx, url, keyed); err != nil {
		return 0, err
	}
	return run(ctx, url)
}

func measureRates(ctx context.Context, opts options, all *results) error {
	sizes := slices.Sorted(func(yield func(int) bool) {
		for s := range opts.counts {
			if !yield(s) {
				return
			}
		}
	})
	measured, err := measureCells(ctx, opts, sizes, contenders())
	if err != nil {
		return err
	}
	all.Rates = measured
	all.printRates()
	return nil
}

// measureCells measures contenders for each size.
func measureCells(ctx context.Context, opts options, sizes []int, cells []contender) (all []rate, err error) {
	for _, size := range sizes {
		// One run before the clock starts warms up the code, the answers of the stubs and the buffers of the kernel.
		for _, c := range cells {
			if _, err := c.run(ctx, min(2000, opts.counts[size]), size); err != nil {
				return nil, fmt.Errorf("%s, %s, %s: %w", c.part, c.work, c.name, err)
			}
		}
		perSecond := make([][]float64, len(cells))
		for round := range opts.rounds {
			progress("%s, round %d of %d", sizeName(size), round+1, opts.rounds)
			for i, c := range cells {
				r, err := c.rate(ctx, opts.counts[size], size)
				if err != nil {
					return nil, err
				}
				perSecond[i] = append(perSecond[i], r)
			}
		}
		for i, c := range cells {
			all = append(all, rate{Part: c.part, Work: c.work, Contender: c.name, Size: size, PerSecond: median(perSecond[i]), Rounds: perSecond[i]})
		}
	}
	computeRatios(all)
	return all, nil
}

// computeRatios computes OfLimit and OfPeer of rates.
func computeRatios(all []rate) {
	find := func(part, work, name string, size int) float64 {
		for _, x := range all {
			if x.Part == part && x.Work == work && x.Contender == name && x.Size == size {
				return x.PerSecond
			}
		}
		return 0
	}
	for i := range all {
		x := &all[i]
		if limit := find(x.Part, x.Work, limitName, x.Size); limit > 0 {
			x.OfLimit = x.PerSecond / limit
		}
		if p := find(x.Part, x.Work, peerName, x.Size); p > 0 {
			x.OfPeer = x.PerSecond / p
		}
	}
}

func (r *results) printRates() {
	for _, part := range []string{aloneName, wholeName} {
		var rows [][]string
		for _, x := range r.Rates {
			if x.Part != part {
				continue
			}
			ratio := fmt.Sprintf("%.2f", x.OfLimit)
			if part == wholeName {
				ratio = fmt.Sprintf("%.2f", x.OfPeer)
			}
			rows = append(rows, []string{sizeName(x.Size), x.Work, x.Contender, thousands(x.PerSecond), ratio})
		}
		title, ratio := "The client alone, against a server that answers at once", "of the limit"
		if part == wholeName {
			title, ratio = "With its server, in one process, over loopback", "of JetStream in memory"
		}
		table(title, []string{"size", "work", "contender", "messages/s", ratio}, rows)
	}
}
