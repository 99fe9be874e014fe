package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sequin-go/sequin"
)

const (
	// drainTimeout is how long the workers may make no progress with the remaining messages after the producers have stopped.
	// A slow server takes longer for all of them.
	drainTimeout = time.Minute
	drainPoll    = 500 * time.Millisecond
	// maxListed is the largest limit of a list.
	maxListed = 10_000
)

// waitUntilDrained waits until no consumer has messages left. It fails when the number of messages that a consumer has left
// has not become smaller for drainTimeout.
func waitUntilDrained(ctx context.Context, client *sequin.Client) error {
	for _, name := range consumers {
		if err := drain(ctx, client, name); err != nil {
			return fmt.Errorf("%s has messages left: %w", name, err)
		}
	}
	return nil
}

func drain(ctx context.Context, client *sequin.Client, consumer string) error {
	least, at := backlog{count: maxListed + 1}, time.Now()
	for {
		messages, err := client.PeekMessages(ctx, streamName, consumer, sequin.ListOptions{Limit: maxListed})
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			return nil
		}
		left := backlog{count: len(messages), lastSeq: messages[len(messages)-1].Message.Seq}
		if left.smaller(least) {
			least, at = left, time.Now()
		}
		if time.Since(at) > drainTimeout {
			return fmt.Errorf("at least %d, no fewer than %v ago", left.count, time.Since(at).Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainPoll):
		}
	}
}

// backlog is the beginning of what a consumer has left: at most maxListed messages by ascending seq.
type backlog struct {
	count   int
	lastSeq int64 // of the last message in the list
}

// smaller reports whether a consumer has made progress. Where the list is full the last message in it tells.
func (b backlog) smaller(than backlog) bool {
	return b.count < than.count || b.count == maxListed && than.count == maxListed && b.lastSeq > than.lastSeq
}
