package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sequin-go/sequin"
)

// A tick is a time at which a job is due.
type tick struct {
	Job string    `json:"job"`
	Due time.Time `json:"due"`
}

// ticks names a tick by its job and its time. Every process sends the same bytes under the same key, which is one message.
var ticks = sequin.Typed[tick]{Key: func(t tick) string { return t.Job + "." + strconv.FormatInt(t.Due.Unix(), 10) }}

// schedule sends a tick whenever the job is due, until ctx ends. Several processes may do so for the same job: their clocks decide when
// a tick is sent, and not how often.
func schedule(ctx context.Context, client *sequin.Client, o options) error {
	pub, err := client.NewPublisher("cron_jobs", sequin.PublisherConfig{CloseTimeout: o.grace})
	if err != nil {
		return err
	}
	for due := next(time.Now(), o.every); wait(ctx, due); due = next(due, o.every) {
		// In an outage ticks wait in the buffer, and are sent when it is over.
		if err = ticks.Send(ctx, pub, tick{o.name, due}); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, pub.Close(context.WithoutCancel(ctx)))
}

// next returns the first time after now at which a job is due. It is the same in all processes.
func next(now time.Time, every time.Duration) time.Time {
	return now.UTC().Truncate(every).Add(every)
}

// wait waits until a time, and reports false if ctx ends before.
func wait(ctx context.Context, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
