// Stress runs producers, workers and the devserver as separate processes, over real sockets and in real time. It kills and
// restarts producers and workers at random, and at random a proxy resets connections, or answers a page of its own after the
// server has acted. Each process logs its events to a file. At the end the files must show that
//
//   - each message that was confirmed to a producer as sent was received by a worker of each consumer;
//   - no message was received after its ack had been confirmed to a worker;
//   - no message is left on the server.
//
// Run it by `make stress`. It listens on the loopback interface only, and ends only processes that it started.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var d director
	role := flag.String("as", "", "internal: the `role` of a child process")
	var c child
	flag.StringVar(&c.url, "url", "", "internal: the server's URL")
	flag.StringVar(&c.name, "name", "", "internal: the child's name")
	flag.StringVar(&c.log, "log", "", "internal: the child's event log")
	flag.StringVar(&c.consumer, "consumer", "", "internal: the worker's consumer")
	flag.DurationVar(&d.length, "for", 30*time.Second, "how long the run takes")
	flag.StringVar(&d.compat, "compat", "documented", "the server's behaviour: `documented` or aug2024")
	flag.Uint64Var(&d.seed, "seed", uint64(time.Now().UnixNano()), "the seed of the random numbers; the timing of a run stays random")
	flag.StringVar(&d.devserver, "devserver", "", "the `path` of the built devserver")
	flag.Parse()
	var err error
	switch *role {
	case "producer":
		err = c.produce(ctx)
	case "worker":
		err = c.work(ctx)
	default:
		err = d.run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "stress %s%s: %v\n", *role, c.name, err)
		os.Exit(1)
	}
}
