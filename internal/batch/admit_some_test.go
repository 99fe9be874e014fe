package batch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// some admits parcels with these numbers together, alternately into the lanes.
func (d *driver) some(ns ...int) (int, error) {
	entries := make([]Entry[parcel], 0, len(ns))
	for _, n := range ns {
		entries = append(entries, *parcel{n: n, key: uint64(n), size: 10}.entry())
	}
	lanes := d.engine.cfg.Lanes
	return d.engine.AdmitSome(entries, func(e *Entry[parcel]) int { return e.Item.n % lanes })
}

func TestEntriesThatAreAdmittedTogetherLeaveTogether(t *testing.T) {
	withDriver(t, Config[parcel, int]{Linger: time.Hour}, func(t *testing.T, d *driver) {
		n, err := d.some(1, 2, 3, 4)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		synctest.Wait()
		require.Equal(t, [][]int{{1, 2, 3}}, d.ran(), "they are urgent, and a batch has three")
		require.NoError(t, d.engine.Flush(context.Background()))
		require.Equal(t, [][]int{{1, 2, 3}, {4}}, d.ran())
	})
}

func TestEntriesAreAdmittedAsFarAsThereIsRoom(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 3}, func(t *testing.T, d *driver) {
		n, err := d.some(1, 2, 3, 4)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		n, err = d.some(4)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, d.engine.Flush(context.Background()))
		require.Equal(t, [][]int{{1, 2, 3}}, d.ran())
		_, _ = d.close(context.Background())
		_, err = d.some(5)
		require.ErrorIs(t, err, ErrClosed)
	})
}

// An admission that waits comes first, also if there is room for a smaller entry.
func TestEntriesDoNotOvertakeAnAdmissionThatWaits(t *testing.T) {
	withDriver(t, Config[parcel, int]{MaxItems: 9, MaxBytes: 45}, func(t *testing.T, d *driver) {
		d.put(1, 2)
		waited := make(chan error, 1)
		go func() { waited <- d.admit(context.Background(), parcel{n: 3, size: 30}, 0, false, true) }()
		synctest.Wait()
		n, err := d.some(4)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, <-waited)
		require.NoError(t, d.engine.Flush(context.Background()))
	})
}
