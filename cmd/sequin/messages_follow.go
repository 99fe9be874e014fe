package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

const (
	followEvery = time.Second // between two lists of --follow
	maxList     = 10_000      // messages in a list, the limit of the API
)

// followMessages prints the messages after opts.AfterSeq, with after, or else the newest ones, and then those with higher seqs.
func followMessages(ctx context.Context, s *session, stream string, opts sequin.ListOptions, after bool) error {
	next := func() ([]sequin.StoredMessage, bool, error) { return nextPage(ctx, s, stream, &opts) }
	if !after {
		next = newest(ctx, s, stream, opts)
	}
	for started := false; ; {
		messages, more, err := next()
		if ctx.Err() != nil {
			return nil // ctrl-C is how --follow ends
		}
		switch {
		case err != nil && (!started || !sequin.IsTransient(err)):
			return err
		case err != nil:
			fmt.Fprintln(s.errors, cli.Line(err)+": trying again")
		case len(messages) > 0:
			if err := printMessages(s, messages, ""); err != nil {
				return err
			}
		}
		started = true
		if !more && !sleep(ctx, followEvery) {
			return nil
		}
	}
}

// nextPage returns the messages after opts.AfterSeq and moves that behind them. more says that there are further ones. The server
// must know pages.
func nextPage(ctx context.Context, s *session, stream string, opts *sequin.ListOptions) (messages []sequin.StoredMessage, more bool, err error) {
	messages, err = s.client.ListMessages(ctx, stream, *opts)
	if n := len(messages); n > 0 {
		opts.AfterSeq = messages[n-1].Seq
	}
	return messages, len(messages) == opts.Limit, err
}

// newest returns a function that returns the newest messages, and at the next calls those that have come meanwhile, from any server. A
// message that is replaced between two calls is returned once, as it is then.
func newest(ctx context.Context, s *session, stream string, opts sequin.ListOptions) func() ([]sequin.StoredMessage, bool, error) {
	last, first, started := int64(0), opts.Limit, false
	opts.Sort = sequin.SortDescending
	return func() ([]sequin.StoredMessage, bool, error) {
		messages, missed, err := after(ctx, s, stream, opts, last, started)
		if err != nil {
			return nil, false, err
		}
		started = true
		if missed {
			fmt.Fprintf(s.errors, "sequin: more than %d messages came within %v, and older ones were left out\n", maxList, followEvery)
		}
		if n := len(messages); n > 0 {
			last, opts.Limit = messages[n-1].Seq, first
		}
		return messages, false, nil
	}
}

// after returns the messages after a seq, oldest first. While all messages of a list are new, it asks for more. missed says
// that even the largest list had only new messages.
func after(ctx context.Context, s *session, stream string, opts sequin.ListOptions, last int64, all bool) (messages []sequin.StoredMessage, missed bool, err error) {
	for {
		messages, err = s.client.ListMessages(ctx, stream, opts)
		if err != nil {
			return nil, false, err
		}
		full := len(messages) == opts.Limit && len(messages) > 0 && messages[len(messages)-1].Seq > last+1
		if !all || !full || opts.Limit == maxList {
			missed = all && full
			break
		}
		opts.Limit = min(10*opts.Limit, maxList)
	}
	messages = slices.DeleteFunc(messages, func(m sequin.StoredMessage) bool { return m.Seq <= last })
	slices.Reverse(messages)
	return messages, missed, nil
}
