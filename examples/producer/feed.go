package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sequin-go/sequin"
)

// feeder reads records and hands them to the ledger.
type feeder struct {
	o       options
	ledger  *ledger
	rejects *rejects
	read    atomic.Int64     // messages of the spool, and records of the input that -skip did not pass over
	rest    []sequin.Message // of these, what the Publisher did not accept, in order
}

// feedAll sends the spool, then the input, until both end or reading does. The message in hand has until sending ends: it
// was read, and where the server is well it needs no spool.
func (f *feeder) feedAll(reading, sending context.Context, spooled []sequin.Message, input io.Reader) error {
	f.read.Add(int64(len(spooled)))
	for i, m := range spooled {
		err := f.send(sending, m, 0)
		if err == nil {
			err = context.Cause(reading)
		}
		if err != nil {
			f.rest = append(f.rest, spooled[i+1:]...)
			return fmt.Errorf("reading ended after message %d of %s: %w", i+1, f.o.spool, cmp.Or(context.Cause(reading), err))
		}
	}
	return f.feed(reading, sending, input)
}

// feed sends the input.
func (f *feeder) feed(reading, sending context.Context, input io.Reader) (err error) {
	records, last := f.o.records(reading, input), f.o.skip
	for err == nil {
		select {
		case r := <-records:
			switch {
			case errors.Is(r.end, io.EOF):
				return nil
			case r.end != nil:
				return fmt.Errorf("reading after record %d: %w", last, r.end)
			}
			last = r.number
			f.read.Add(1)
			if r.bad != nil {
				f.rejects.add(r.message, r.bad, last)
			} else {
				err = f.send(sending, r.message, last)
			}
		case <-reading.Done():
			err = context.Cause(reading)
		}
	}
	err = cmp.Or(context.Cause(reading), err) // that it was interrupted says more than how its last send ended
	return fmt.Errorf("reading ended after record %d: %w; -skip %d goes on there", last, err, last)
}

// send hands over a message that is record number, or of the spool: 0. It may reject it. An error ends the reading; the
// message itself may be fine, and is kept.
func (f *feeder) send(ctx context.Context, m sequin.Message, number int64) error {
	err := f.ledger.send(ctx, m)
	switch {
	case err == nil:
		return nil
	case hopeless(err):
		f.rejects.add(m, err, number)
		return nil
	}
	f.rest = append(f.rest, m)
	return err
}

// numbered is a record on its way to the feeder.
type numbered struct {
	number  int64 // from 1
	message sequin.Message
	bad     error // what is wrong with this record
	end     error // of the input, io.EOF as a rule: no record, and none after it
}

// records reads the input behind -skip, on a goroutine that ends with the input or with ctx; or else with the process,
// because nothing can interrupt a read of standard input.
func (o options) records(ctx context.Context, input io.Reader) <-chan numbered {
	records := make(chan numbered)
	put := func(n numbered) (more bool) {
		select {
		case records <- n:
			return n.end == nil
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		next, err := formats[o.format](input)
		if err != nil {
			put(numbered{end: err})
			return
		}
		for number := int64(1); ; number++ {
			if n := o.numbered(number, next); (n.end != nil || number > o.skip) && !put(n) {
				return
			}
		}
	}()
	return records
}

// numbered reads a record and makes a message of it.
func (o options) numbered(number int64, next func() (record, error)) numbered {
	r, err := next()
	r.number = number
	n := numbered{number: number, message: sequin.Message{Data: r.data}}
	switch {
	case errors.Is(err, errBadRecord):
		n.bad = err
	case err != nil:
		n.end = err
	default:
		n.message.Key, n.bad = o.key.key(r)
	}
	return n
}
