// Package pgcheck checks what servers that share a Postgres database promise while connections are cut, servers are killed, and
// the database crashes. It runs real processes of sequin serve on a database of its own, sends and receives through all of them,
// keeps account of every message and delivery, and compares that with the promises.
package pgcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/pgcluster"
)

// Config says what is run.
type Config struct {
	Program  string // the built program sequin
	Replicas int
	Pooler   bool          // they reach the database through PgBouncer
	For      time.Duration // of faults; consuming the rest takes some seconds more
	Drain    time.Duration // how long consuming the rest may take
	Log      io.Writer     // gets what the servers say
}

// Report says what happened.
type Report struct {
	Messages, Deliveries, Errors int
	Backends, Kills, Crashes     int
	Faults                       []string // what contradicts the promises
}

func (r *Report) String() string {
	return fmt.Sprintf("%d messages, %d deliveries, %d calls failed; %d connections and %d servers were killed, and Postgres crashed %d times; %d contradictions",
		r.Messages, r.Deliveries, r.Errors, r.Backends, r.Kills, r.Crashes, len(r.Faults))
}

// Run runs the servers, the faults and the load. It returns an error for what kept it from checking.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	cluster, err := pgcluster.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := cluster.Run(settings...); err != nil {
		return nil, err
	}
	env := []string{"SEQUIN_POSTGRES=" + cluster.URL()}
	if cfg.Pooler {
		pooler, err := cluster.StartPooler()
		if err != nil {
			return nil, err
		}
		defer pooler.Close()
		env = []string{"SEQUIN_POSTGRES=" + pooler.URL(), "SEQUIN_POSTGRES_LISTEN=" + cluster.URL()}
	}
	r, err := startReplicas(cfg.Replicas, cfg.Program, env, cfg.Log)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	client, err := sequin.NewClient(sequin.Config{
		BaseURL: "http://replicas.invalid", HTTPClient: &http.Client{Transport: r}, Retry: sequin.RetryConfig{MaxAttempts: 1},
	})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	begin := time.Now()
	now := func() time.Duration { return time.Since(begin) }
	var loads []*load
	for name, keyed := range map[string]bool{"log": false, "newest": true} {
		l, err := newLoad(ctx, name, keyed, client, now)
		if err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	f := &faults{cluster: cluster, replicas: r, now: now}
	if err := runLoads(ctx, cfg, loads, f); err != nil {
		return nil, err
	}
	return conclude(ctx, loads, f)
}

// runLoads sends and consumes while there are faults, and then consumes the rest.
func runLoads(ctx context.Context, cfg Config, loads []*load, f *faults) error {
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	faulty, end := context.WithTimeout(ctx, cfg.For)
	defer end()
	var sending, receiving sync.WaitGroup
	for _, l := range loads {
		for i := range senders {
			sending.Go(func() { l.send(faulty, i) })
		}
		for range workers {
			receiving.Go(func() { l.consume(consuming) })
		}
	}
	err := f.run(faulty)
	sending.Wait()
	for _, l := range loads {
		err = errors.Join(err, l.pub.Close(ctx))
		l.drains.Store(true)
	}
	if err == nil {
		drain(ctx, cfg.Drain, loads)
	}
	stop()
	receiving.Wait()
	return err
}

// drain waits until nothing is left to consume, and longer than a lease: what an ack in doubt has not settled comes again.
func drain(ctx context.Context, most time.Duration, loads []*load) {
	quiet := time.Duration(0)
	for deadline := time.Now().Add(most); quiet < ackWait+time.Second && time.Now().Before(deadline); {
		const step = 100 * time.Millisecond
		pause(ctx, step)
		quiet += step
		for _, l := range loads {
			if l.account.left() > 0 {
				quiet = 0
			}
		}
	}
}

// conclude compares the accounts with the promises.
func conclude(ctx context.Context, loads []*load, f *faults) (*Report, error) {
	report := &Report{Backends: f.backends, Kills: f.kills, Crashes: f.crashes}
	for _, l := range loads {
		messages, deliveries := l.account.counts()
		report.Messages, report.Deliveries, report.Errors = report.Messages+messages, report.Deliveries+deliveries, report.Errors+int(l.errors.Load())
		stored, err := l.stored(ctx)
		if err != nil {
			return nil, err
		}
		unsettled, err := l.unsettled(ctx)
		if err != nil {
			return nil, err
		}
		report.Faults = append(append(append(report.Faults, l.account.check()...), stored...), unsettled...)
	}
	return report, nil
}
