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

// feeder reads records and passes their messages to the tracker.
type feeder struct {
	o       options
	tracker *tracker
	rejects *rejects
	read    atomic.Int64     // messages of the spool, and records of the input after those that -skip leaves out
	rest    []sequin.Message // of these, the messages that the Publisher did not accept, in order
}

// feedAll sends the spool and then the input, until both are sent or readCtx ends. The message in hand may still be sent
// until sendCtx ends, so that it need not be spooled if the server is available.
func (f *feeder) feedAll(readCtx, sendCtx context.Context, spooled []sequin.Message, input io.Reader) error {
	f.read.Add(int64(len(spooled)))
	for i, m := range spooled {
		err := f.send(sendCtx, m, 0)
		if err == nil {
			err = context.Cause(readCtx)
		}
		if err != nil {
			f.rest = append(f.rest, spooled[i+1:]...)
			return fmt.Errorf("reading ended after message %d of %s: %w", i+1, f.o.spool, cmp.Or(context.Cause(readCtx), err))
		}
	}
	return f.feed(readCtx, sendCtx, input)
}

// feed sends the input.
func (f *feeder) feed(readCtx, sendCtx context.Context, input io.Reader) (err error) {
	records, last := f.o.records(readCtx, input), f.o.skip
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
				err = f.send(sendCtx, r.message, last)
			}
		case <-readCtx.Done():
			err = context.Cause(readCtx)
		}
	}
	err = cmp.Or(context.Cause(readCtx), err) // an interrupt says more than the error of the last send
	return fmt.Errorf("reading ended after record %d: %w; -skip %d continues there", last, err, last)
}

// send sends or rejects a message. number is that of its record, or 0 for a message of the spool. An error ends reading; the
// message is then kept in rest, since it may be valid.
func (f *feeder) send(ctx context.Context, m sequin.Message, number int64) error {
	err := f.tracker.send(ctx, m)
	switch {
	case err == nil:
		return nil
	case isPermanent(err):
		f.rejects.add(m, err, number)
		return nil
	}
	f.rest = append(f.rest, m)
	return err
}

// parsed is a record that was read from the input, as a message.
type parsed struct {
	number  int64 // from 1
	message sequin.Message
	bad     error // why no message can be made of this record
	end     error // why there is no record and none follows, io.EOF as a rule
}

// records reads the input after the records that -skip leaves out. Its goroutine ends with the input or with ctx. One that
// reads from standard input may end only with the process, because nothing can interrupt that read.
func (o options) records(ctx context.Context, input io.Reader) <-chan parsed {
	records := make(chan parsed)
	put := func(r parsed) (more bool) {
		select {
		case records <- r:
			return r.end == nil
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		next, err := formats[o.format](input)
		if err != nil {
			put(parsed{end: err})
			return
		}
		for number := int64(1); ; number++ {
			if r := o.parse(number, next); (r.end != nil || number > o.skip) && !put(r) {
				return
			}
		}
	}()
	return records
}

// parse reads a record and makes a message of it.
func (o options) parse(number int64, next func() (record, error)) parsed {
	r, err := next()
	r.number = number
	p := parsed{number: number, message: sequin.Message{Data: r.data}}
	switch {
	case errors.Is(err, errBadRecord):
		p.bad = err
	case err != nil:
		p.end = err
	default:
		p.message.Key, p.bad = o.key.key(r)
	}
	return p
}
