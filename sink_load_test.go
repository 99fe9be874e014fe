package sequin_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// versions checks that the changes of each row are handled in order, and without gaps.
type versions struct {
	mu    sync.Mutex
	last  map[int]int // by row
	busy  map[int]bool
	again int // changes that were handled before
	wrong []string
}

// begin notes that a change is being handled.
func (v *versions) begin(row, version int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case version > v.last[row]+1:
		v.wrong = append(v.wrong, fmt.Sprintf("row %d: version %d comes after %d", row, version, v.last[row]))
	case version <= v.last[row]:
		v.again++
	case v.busy[row]:
		v.wrong = append(v.wrong, fmt.Sprintf("row %d: version %d comes while another one is handled", row, version))
	}
	v.busy[row], v.last[row] = true, max(v.last[row], version)
}

func (v *versions) end(row int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy[row] = false
}

// numberedRow is a row with the number of its version.
type numberedRow struct{ ID, Version int }

func TestAHundredThousandChangesAreHandledInTheOrderOfTheirRows(t *testing.T) {
	const rows, each = 1000, changesOfARow
	for _, row := range []struct {
		name         string
		restartEvery time.Duration
	}{{"without a restart", 0}, {"while the server restarts", changesOfARow * time.Second}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{KeepRequests: -1}, sequin.Config{})
				sink := w.Sink("orders", server.SinkOptions{PrimaryKey: []string{"ID"}, StartUp: 6 * time.Second})
				for version := range each {
					changes := make([]server.SinkChange, rows)
					for id := range changes {
						changes[id] = server.SinkChange{Action: "update", Record: numberedRow{id, version + 1}}
					}
					require.NoError(t, sink.Commit(changes...))
				}
				seen := &versions{last: map[int]int{}, busy: map[int]bool{}}
				run := w.start(t, func(ctx context.Context) error { return handleRows(ctx, w, seen) })
				restarts := 0
				for began := time.Now(); sink.State() != (server.SinkState{}); time.Sleep(time.Second) {
					require.Less(t, time.Since(began), time.Hour)
					if row.restartEvery > 0 && time.Since(began) >= time.Duration(restarts+1)*row.restartEvery && restarts < 5 {
						restarts++
						w.RestartSinks()
						w.CutConnections()
					}
				}
				require.NoError(t, run.stop())
				require.Empty(t, seen.wrong)
				for id := range rows {
					require.Equal(t, each, seen.last[id], "row %d", id)
				}
				require.Equal(t, restarts > 0, seen.again > 0, "%d changes were handled again", seen.again)
			})
		})
	}
}

// handleRows handles the changes of the sink orders until ctx ends.
func handleRows(ctx context.Context, w *world, seen *versions) error {
	sub, err := w.client.SubscribeSink(ctx, "orders", sequin.SinkConfig{})
	if err != nil {
		return err
	}
	return sub.Handle(ctx, sequin.HandlerConfig{Workers: 100}, func(_ context.Context, d sequin.Delivery) error {
		change, err := sequin.DecodeChange[numberedRow](d)
		if err != nil {
			return err
		}
		seen.begin(change.Record.ID, change.Record.Version)
		time.Sleep(500 * time.Millisecond)
		seen.end(change.Record.ID)
		return nil
	})
}
