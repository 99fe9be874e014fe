// Storebench makes one measurement of a store on Postgres, or of the SQL of the server of 2024 on the same database, and prints
// it as a JSON object. The program bench runs it once for each cell of its table.
//
//	storebench -url URL -contender store -work append -size 100 -messages 200000 -consumers 1 -replicas 4
//
// What it makes in the database is removed at the end.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"time"
)

// cell is what is measured.
type cell struct {
	work      string
	size      int // bytes of the data of a message
	messages  int // that are published or received
	consumers int
	replicas  int // of the store
	keys      int // that a stream with one message per key has before
}

// result is a measurement. Rates count a message once for each consumer that settles it.
type result struct {
	PerSecond float64
	P50, P99  time.Duration // of a request; 0 where requests are not timed
}

// The contenders, and what is measured of them.
const (
	contenderStore = "store"
	contenderSQL   = "sql2024"

	workAppend      = "append"      // publish batches to a stream that appends
	workUpsert      = "upsert"      // publish batches of 30 % changed and 70 % new keys, from one publisher
	workReceive     = "receive"     // receive and ack batches of messages that are there
	workBoth        = "end-to-end"  // publish, receive and ack at the same time
	workSend        = "send-one"    // publish from many callers, a message each
	workReceiveOne  = "receive-one" // receive and ack from many callers, a message each
	timeoutOfAll    = 10 * time.Minute
	timeoutOfRemove = time.Minute
)

func main() {
	var c cell
	url := flag.String("url", "", "URL of the database")
	name := flag.String("contender", contenderStore, "store or sql2024")
	flag.StringVar(&c.work, "work", workAppend, "append, upsert, receive, end-to-end, send-one or receive-one")
	flag.IntVar(&c.size, "size", 100, "bytes of the data of a message")
	flag.IntVar(&c.messages, "messages", 100_000, "number of messages")
	flag.IntVar(&c.consumers, "consumers", 1, "number of consumers")
	flag.IntVar(&c.replicas, "replicas", 1, "number of replicas of the store")
	flag.IntVar(&c.keys, "keys", 0, "number of keys that the stream of upsert has before")
	profile := flag.String("cpuprofile", "", "file for a CPU profile of the measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeoutOfAll)
	defer cancel()
	stopProfile, err := startProfile(*profile)
	if err != nil {
		fail(err)
	}
	r, err := run(ctx, *url, *name, c)
	stopProfile()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "storebench:", err)
	os.Exit(1)
}

// startProfile starts a CPU profile, unless the name of its file is empty.
func startProfile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}

// run measures a cell of a contender, and removes what it made.
func run(ctx context.Context, url, name string, c cell) (r result, err error) {
	var p contender
	switch name {
	case contenderStore:
		p, err = openStore(ctx, url, c)
	case contenderSQL:
		p, err = openSQL(ctx, url, c)
	default:
		return r, fmt.Errorf("there is no contender %q", name)
	}
	if err != nil {
		return r, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeoutOfRemove)
		defer cancel()
		err = errors.Join(err, p.remove(ctx))
	}()
	return measure(ctx, p, c)
}
