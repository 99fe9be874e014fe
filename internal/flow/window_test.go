package flow

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

// newLease returns a lease of 10 s with a margin of 2 s that begins at a time.
func newLease(at time.Time) *lease.Lease {
	terms := lease.NewTerms(10*time.Second, 0)
	return lease.New(at, 0, at, terms, terms, context.Background())
}

func TestTheWindowBeginsAtThirtyTwoOrAtWhatItMayBe(t *testing.T) {
	for _, row := range []struct{ maxInFlight, pollers, size, ask int }{
		{1, 1, 1, 1}, {1, 2, 1, 1}, {10, 1, 10, 5}, {10, 2, 10, 4}, {90, 2, 32, 30}, {1000, 2, 32, 334}, {100_000, 2, 32, 1000},
	} {
		var times HandlingTimes
		w := NewWindow(row.maxInFlight, row.pollers, 1000, &times)
		require.Equal(t, row.size, w.Size(), "%+v", row)
		require.Equal(t, row.ask, w.Ask(row.maxInFlight), "%+v", row)
		require.Equal(t, min(1, row.ask), w.Ask(1))
	}
}

func TestTheWindowDoublesOnlyIfTwiceAsManyWouldBeSettledInTime(t *testing.T) {
	for name, row := range map[string]struct {
		took     time.Duration // in the buffer
		handling time.Duration // until a settle
		limited  bool
		want     int
	}{
		"quick":                {time.Millisecond, time.Second, true, 64},
		"just in time":         {time.Second, 3 * time.Second, true, 64},
		"too slow":             {time.Second, 3*time.Second + 1, true, 32},
		"long in the buffer":   {3 * time.Second, time.Millisecond, true, 32},
		"not limited":          {time.Millisecond, time.Second, false, 32},
		"settled nothing, yet": {time.Millisecond, 0, true, 64},
	} {
		var times HandlingTimes
		w := NewWindow(1000, 2, 1000, &times)
		if row.handling > 0 {
			times.Add(row.handling)
		}
		began := time.Now()
		b := w.NewBatch(newLease(began), w.Round(), row.limited, true)
		w.Read(began.Add(row.took), &b)
		require.Equal(t, row.want, w.Size(), name)
	}
}

func TestTheWindowGrowsBeyondFullReceivesOnlyIfTheProgramWaits(t *testing.T) {
	for name, row := range map[string]struct {
		each          int // bytes of a message
		waited, wants int
	}{
		"small messages": {100, 10_000, 4096},           // 3 x 1000 make each receive a full one
		"large messages": {10 * 1024, 10_000, 512},      // 3 x 102: an answer holds 1 MiB
		"huge messages":  {5 * answerBytes, 10_000, 32}, // 3 x 1
	} {
		for _, starved := range []bool{true, false} {
			var times HandlingTimes
			w := NewWindow(10_000, 2, 1000, &times)
			w.Sized(1, row.each)
			for range 20 {
				began := time.Now()
				b := w.NewBatch(newLease(began), w.Round(), true, starved)
				w.Read(began.Add(time.Millisecond), &b)
			}
			if starved {
				require.Equal(t, row.waited, w.Size(), name)
			} else {
				require.Equal(t, row.wants, w.Size(), name)
			}
		}
	}
}

func TestAReceiveAsksForWhatOneAnswerHolds(t *testing.T) {
	var times HandlingTimes
	w := NewWindow(10_000, 2, 1000, &times)
	require.Zero(t, w.Each())
	require.Equal(t, 1000, w.Ask(5000))
	w.Sized(10, 10*10*1024)
	require.Equal(t, 10*1024, w.Each())
	require.Equal(t, 102, w.Ask(5000))
	require.True(t, w.Small(15), "half of the window of 32 is the least")
	w.Sized(4, 4*2*1024)
	require.Equal(t, 8*1024, w.Each(), "down by a quarter of the difference")
	w.Sized(1, 20*1024)
	require.Equal(t, 20*1024, w.Each(), "up at once")
	w.Sized(1, 5*answerBytes)
	require.Equal(t, 1, w.Ask(5000), "one message always")
	require.False(t, w.Small(1))
}

func TestTheWindowShrinksToWhatTheProgramTook(t *testing.T) {
	var times HandlingTimes
	w := NewWindow(1000, 2, 1000, &times)
	now := time.Now()
	many, few := w.NewBatch(newLease(now), w.Round(), false, true), w.NewBatch(newLease(now), w.Round(), false, true)
	w.Expired(now, &many, 1000)
	require.Equal(t, 16, w.Size(), "by half at most")
	w.Expired(now, &few, 2)
	require.Equal(t, 16, w.Size(), "a batch of another round says nothing about this one")
	few = w.NewBatch(newLease(now), w.Round(), false, true)
	w.Expired(now, &few, 6)
	require.Equal(t, 3, w.Size())
	none := w.NewBatch(newLease(now), w.Round(), false, true)
	w.Expired(now, &none, 0)
	require.Equal(t, 1, w.Size(), "never less than one")
}

func TestALateSettleShrinksTheWindowOnlyIfItsMessageWasLongInTheBuffer(t *testing.T) {
	for took, want := range map[time.Duration]int{2 * time.Second: 32, 2*time.Second + 1: 16} {
		var times HandlingTimes
		w := NewWindow(1000, 2, 1000, &times)
		began := time.Now()
		b := w.NewBatch(newLease(began), w.Round(), false, true)
		w.Read(began.Add(took), &b)
		w.Late(&b)
		require.Equal(t, want, w.Size(), took)
	}
}

func TestUnsettledMessagesGrowTheWindowOnlyIfNothingWasSettled(t *testing.T) {
	var times HandlingTimes
	w := NewWindow(1000, 2, 1000, &times)
	b := w.NewBatch(newLease(time.Now()), w.Round(), false, true)
	w.Unsettled(&b)
	require.Equal(t, 64, w.Size())
	b = w.NewBatch(newLease(time.Now()), w.Round(), false, true)
	times.Add(time.Second)
	w.Unsettled(&b)
	require.Equal(t, 64, w.Size())
}

func TestTheBufferIsSampledOftenOnlyWhileItChanges(t *testing.T) {
	var w Window
	var pauses []time.Duration
	for _, level := range []int{5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 4} {
		pauses = append(pauses, w.Sample(level)/time.Millisecond)
	}
	require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 32, 50, 50, 50, 1, 2}, pauses)
}

func TestHandlingTimesForgetAllButTheLast(t *testing.T) {
	var times HandlingTimes
	fastest, slowest := times.Extremes()
	require.Zero(t, fastest)
	require.Zero(t, slowest)
	times.Add(time.Hour)
	for i := range 256 {
		_, slowest = times.Extremes()
		require.Equal(t, time.Hour, slowest)
		times.Add(time.Duration(i+2) * time.Second)
	}
	fastest, slowest = times.Extremes()
	require.Equal(t, 2*time.Second, fastest)
	require.Equal(t, 257*time.Second, slowest)
	require.EqualValues(t, 257, times.Count())
}

// The messages of a batch that was asked for before the window grew are as late as any.
func TestAnExpiryCountsThoughTheWindowHasGrownSince(t *testing.T) {
	for name, report := range map[string]func(w *Window, b *Batch){
		"not read":      func(w *Window, b *Batch) { w.Expired(time.Now(), b, 1000) },
		"settled later": func(w *Window, b *Batch) { b.buffered = 3 * time.Second; w.Late(b) },
	} {
		var times HandlingTimes
		w := NewWindow(1000, 2, 1000, &times)
		began := time.Now()
		quick, slow := w.NewBatch(newLease(began), w.Round(), true, true), w.NewBatch(newLease(began), w.Round(), false, true)
		w.Read(began.Add(time.Millisecond), &quick)
		require.Equal(t, 64, w.Size(), name)
		again := quick
		w.Read(began.Add(time.Millisecond), &again)
		require.Equal(t, 64, w.Size(), "%s: it grows once", name)
		report(&w, &slow)
		require.Equal(t, 32, w.Size(), name)
		report(&w, &again)
		require.Equal(t, 32, w.Size(), "%s: it shrinks once", name)
	}
}
