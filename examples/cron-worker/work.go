package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/sequin-go/sequin"
)

// work runs the job for each tick, one at a time, until ctx ends. While it runs its lease is extended, so that no other process
// begins. When a process is gone, another one begins after -lease, and the attempt is counted.
func work(ctx context.Context, client *sequin.Client, o options, job func(context.Context) error, out io.Writer) error {
	sub, err := client.Subscribe(ctx, "cron_jobs", o.name, sequin.SubscriberConfig{
		MaxInFlight:  1, // other processes get the ticks that come meanwhile
		DrainTimeout: o.grace,
	})
	if err != nil {
		return err
	}
	defer sub.Close(context.WithoutCancel(ctx)) // in case Handle refuses to start
	cfg := sequin.HandlerConfig{
		MaxHandling: o.limit,
		DeadLetter:  &sequin.DeadLetter{Stream: "cron_failed", MaxAttempts: o.attempts},
	}
	return sub.Handle(ctx, cfg, ticks.Handler(func(ctx context.Context, t tick, d sequin.Delivery) error {
		began := time.Now()
		fmt.Fprintf(out, "%s of %s: attempt %d of %d\n", t.Job, t.Due.Format(time.TimeOnly), d.Attempt, o.attempts)
		err := job(ctx)
		if err != nil {
			// The cause says why the ctx ended, if it did: the lease was lost, or -limit is over.
			fmt.Fprintf(out, "%s of %s: failed: %v\n", t.Job, t.Due.Format(time.TimeOnly), err)
			return err
		}
		fmt.Fprintf(out, "%s of %s: done in %v\n", t.Job, t.Due.Format(time.TimeOnly), time.Since(began).Round(time.Millisecond))
		return nil
	}))
}

// execute returns a job that runs a command. The end of its ctx interrupts the command, and kills it half a second later: a stop
// gives a handler a second to return. On Unix nothing else does, also not ctrl-C: the command gets the time of -grace.
func execute(command []string, out io.Writer) func(context.Context) error {
	return func(ctx context.Context) error {
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Stdout, c.Stderr = out, out
		c.WaitDelay = 500 * time.Millisecond
		end := ownGroup(c)
		if err := c.Run(); err != nil && ctx.Err() != nil {
			end()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		} else if err != nil {
			return err
		}
		return nil
	}
}
