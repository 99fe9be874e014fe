// Stress runs producers, workers and the devserver as processes of their own, over real sockets and in real time. Producers
// and workers are killed and started again at random, and connections are cut at random; in the end the accounts that all
// of them kept on disk must add up:
//
//   - what a producer was told is sent has been worked on, for each consumer;
//   - what a worker was told is acked has not been handed out again later;
//   - nothing is left.
//
// It is run by `make stress`, listens on the loopback interface alone, and ends no process but its own.
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
	flag.StringVar(&c.url, "url", "", "internal: the server")
	flag.StringVar(&c.name, "name", "", "internal: the child's name")
	flag.StringVar(&c.account, "account", "", "internal: the child's account")
	flag.StringVar(&c.consumer, "consumer", "", "internal: the worker's consumer")
	flag.DurationVar(&d.length, "for", 30*time.Second, "how long to go on")
	flag.StringVar(&d.compat, "compat", "documented", "whose behaviour the server shows: `documented` or aug2024")
	flag.Uint64Var(&d.seed, "seed", uint64(time.Now().UnixNano()), "what is random comes from this, but for how the machine runs")
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
