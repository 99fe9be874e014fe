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

// toLine is the transform of the pipeline. It makes a readable line of a record, under a new key.
func toLine(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
	p, err := sequin.DecodeJSON[clocks.Period](d)
	if err != nil {
		return nil, err
	}
	ahead := time.Duration(p.Offset) * time.Second
	text := fmt.Sprintf("%s: from %s on the clocks of %s showed UTC%+.2f h (%s)", d.Key, p.From.Format(time.DateOnly), p.Zone, ahead.Hours(), p.Abbreviation)
	return []sequin.Message{{Key: "line." + strings.TrimPrefix(d.Key, "tz."), Data: text}}, nil
}

// archive is the file of the batch handler. It has one record per line.
type archive struct {
	file *os.File
	keys map[string]int // how often each was written; used by the handler until it has ended
}

func createArchive(name string) (*archive, error) {
	f, err := os.Create(name)
	return &archive{file: f, keys: map[string]int{}}, err
}

// handle writes batches of up to 500 records, one batch at a time.
func (a *archive) handle(ctx context.Context, sub *sequin.Subscriber) error {
	return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{Size: 500}, a.write)
}

// write returns when the batch is on the disk, so that the batch is acked only then. If the program dies after the write and
// before the ack, the batch is written again: delivery is at least once. A reader of the file finds duplicates by their keys.
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

// ledger is the handler that cannot handle every record. It books offsets in whole minutes. Before there were time zones,
// clocks showed the local solar time, to the second. No retry can make such a record valid. Some other records fail once.
type ledger struct {
	dead string // the dead-letter stream

	mu         sync.Mutex // guards all below
	booked     map[string]bool
	failedOnce map[string]bool
}

func newLedger(dead string) *ledger {
	return &ledger{dead: dead, booked: map[string]bool{}, failedOnce: map[string]bool{}}
}

func (l *ledger) handle(ctx context.Context, sub *sequin.Subscriber) error {
	return sub.Handle(ctx, sequin.HandlerConfig{Workers: 8, BackoffMin: 50 * time.Millisecond,
		DeadLetter: &sequin.DeadLetter{Stream: l.dead, MaxAttempts: 3}}, l.book)
}

var errLocked = errors.New("the ledger is locked")

func (l *ledger) book(_ context.Context, d sequin.Delivery) error {
	p, err := sequin.DecodeJSON[clocks.Period](d)
	if err != nil {
		return err
	}
	if p.Offset%60 != 0 {
		return sequin.Permanent(fmt.Errorf("an offset of %d s is not a whole number of minutes", p.Offset))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Seq%100 == 0 && !l.failedOnce[d.Key] {
		l.failedOnce[d.Key] = true
		return errLocked
	}
	l.booked[d.Key] = true
	return nil
}
