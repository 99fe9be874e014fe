package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/clocks"
)

// toLine is the pipeline's transform: a record becomes a line that people can read, under a key of its own.
func toLine(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
	p, err := sequin.DecodeJSON[clocks.Period](d)
	if err != nil {
		return nil, err
	}
	ahead := time.Duration(p.Offset) * time.Second
	text := fmt.Sprintf("%s: from %s on the clocks of %s showed UTC%+.2f h (%s)", d.Key, p.From.Format(time.DateOnly), p.Zone, ahead.Hours(), p.Abbreviation)
	return []sequin.Message{{Key: "line." + strings.TrimPrefix(d.Key, "tz."), Data: text}}, nil
}

// archive is the batch handler's file: a record a line.
type archive struct {
	file *os.File
	keys map[string]int // how often each was written; the handler's own until it has ended
}

func createArchive(name string) (*archive, error) {
	f, err := os.Create(name)
	return &archive{file: f, keys: map[string]int{}}, err
}

// handle writes batches of up to 500 records, one after the other.
func (a *archive) handle(ctx context.Context, sub *sequin.Subscriber) error {
	return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 500}, a.write)
}

// write returns once the batch is on the disk: only then is it acked. A batch that is written and not acked, because the
// program died in between, would be written again: at least once is what the stream promises, and who reads the file
// knows records by their keys.
func (a *archive) write(_ context.Context, batch []sequin.Delivery) error {
	buffer := bufio.NewWriter(a.file)
	for _, d := range batch {
		line, err := json.Marshal(map[string]string{"key": d.Key, "data": d.Data})
		if err != nil {
			return err
		}
		if _, err := buffer.Write(append(line, '\n')); err != nil {
			return err
		}
		a.keys[d.Key]++
	}
	if err := buffer.Flush(); err != nil {
		return err
	}
	return a.file.Sync()
}

func (a *archive) close() error { return a.file.Close() }

// ledger is the handler that cannot deal with everything: it books records by zone, in whole minutes. Before clocks were
// set by time zones they showed the sun's time, to the second: such a record no retry makes any better. And now and then
// it has a bad moment, which passes.
type ledger struct {
	dead string

	mu      sync.Mutex
	booked  map[string]bool
	stumble map[string]bool // records that failed once and passed later
}

func newLedger(dead string) *ledger {
	return &ledger{dead: dead, booked: map[string]bool{}, stumble: map[string]bool{}}
}

func (l *ledger) handle(ctx context.Context, sub *sequin.Subscriber) error {
	return sub.Handle(ctx, sequin.HandlerConfig{Workers: 8, BackoffMin: 50 * time.Millisecond,
		DeadLetter: &sequin.DeadLetter{Stream: l.dead, MaxAttempts: 3}}, l.book)
}

var errBadMoment = errors.New("the ledger is locked")

func (l *ledger) book(_ context.Context, d sequin.Delivery) error {
	p, err := sequin.DecodeJSON[clocks.Period](d)
	if err != nil {
		return err
	}
	if p.Offset%60 != 0 {
		return sequin.Permanent(fmt.Errorf("an offset of %d s is no whole number of minutes", p.Offset))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Seq%100 == 0 && !l.stumble[d.Key] {
		l.stumble[d.Key] = true
		return errBadMoment
	}
	l.booked[d.Key] = true
	return nil
}
