package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/sequin-go/sequin"
)

// index has the rows of a table by their keys, as a search index would. Its methods may be called concurrently.
type index struct {
	mu      sync.Mutex
	rows    map[string]Order
	seen    int64         // the highest seq
	changed chan struct{} // closed at the next change
}

func newIndex() *index { return &index{rows: map[string]Order{}, changed: make(chan struct{})} }

// apply applies a change. The changes of a row come in their order, and applying one twice changes nothing.
func (x *index) apply(d sequin.Delivery, c sequin.Change[Order]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.Action == sequin.ActionDelete {
		delete(x.rows, d.Key)
	} else {
		x.rows[d.Key] = c.Record
	}
	x.seen = max(x.seen, d.Seq)
	close(x.changed)
	x.changed = make(chan struct{})
}

// wait waits until the index has seen the message with that seq.
func (x *index) wait(ctx context.Context, seq int64) error {
	for {
		x.mu.Lock()
		seen, changed := x.seen, x.changed
		x.mu.Unlock()
		if seen >= seq {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (x *index) print(w io.Writer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(x.rows)) {
		row := x.rows[key]
		fmt.Fprintf(w, "%s\t%s ordered %d\n", key, row.Customer, row.Qty)
	}
}
