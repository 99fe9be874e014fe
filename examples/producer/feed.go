package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sequin-go/sequin"
)

// feeder reads records and hands them to the Publisher.
type feeder struct {
	o        options
	pub      *sequin.Publisher
	rejects  *rejects
	read     atomic.Int64 // records read, those passed over by -skip included
	accepted atomic.Int64 // number of the last record that needs no second look: accepted, rejected or passed over
}

// feedAll sends the spool, then the input. rest is what was not accepted of the spool.
func (f *feeder) feedAll(ctx context.Context, spooled []sequin.Message, input io.Reader) (rest []sequin.Message, err error) {
	if rest, err = f.feedSpool(ctx, spooled); err != nil {
		return rest, err
	}
	fed := make(chan error, 1)
	go func() { fed <- f.feed(ctx, input) }()
	select {
	case err = <-fed:
		return nil, err
	case <-ctx.Done():
		// A read of standard input cannot be interrupted. The feeder is left to itself: with ctx its sends have ended.
		n := f.accepted.Load()
		return nil, fmt.Errorf("interrupted after record %d; -skip %d goes on there", n, n)
	}
}

// feed sends the input, until that ends or ctx does.
func (f *feeder) feed(ctx context.Context, input io.Reader) error {
	next, err := formats[f.o.format](input)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	for {
		r, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, errBadRecord):
			return fmt.Errorf("reading after record %d: %w", f.read.Load(), err)
		}
		r.number = f.read.Add(1)
		if r.number > f.o.skip {
			if err := f.send(ctx, r, err); err != nil {
				return fmt.Errorf("record %d: %w; -skip %d goes on there", r.number, err, r.number-1)
			}
		}
		f.accepted.Store(r.number)
	}
}

// send hands one record over. The error ends the feeding: the record itself may be fine.
func (f *feeder) send(ctx context.Context, r record, bad error) error {
	var key string
	if bad == nil {
		key, bad = f.o.key.key(r)
	}
	if bad == nil {
		bad = f.pub.Send(ctx, key, r.data)
	}
	switch {
	case bad == nil:
		return nil
	case errors.Is(bad, errBadRecord), key == "", errors.Is(bad, sequin.ErrInvalidKey), errors.Is(bad, sequin.ErrInvalidData), errors.Is(bad, sequin.ErrTooLarge):
		f.rejects.refused(r, key, bad)
		return nil
	}
	return bad
}

// feedSpool sends what an earlier run has left, and returns what was not accepted.
func (f *feeder) feedSpool(ctx context.Context, spooled []sequin.Message) (rest []sequin.Message, err error) {
	for i, m := range spooled {
		if err := f.pub.Send(ctx, m.Key, m.Data); err != nil {
			return spooled[i:], fmt.Errorf("%s, message %d: %w", f.o.spool, i+1, err)
		}
	}
	return nil, nil
}
