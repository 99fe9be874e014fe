package batch

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// setLanes changes the number of lanes, as the tuner does.
func (d *driver) setLanes(n int) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	d.engine.state.tuner.from = 0
	d.engine.state.tuner.set(n)
	d.engine.dispatchLocked()
}

// putHome admits parcels with these numbers, each with its number as its key, into the lanes of their keys.
func (d *driver) putHome(ns ...int) {
	for _, n := range ns {
		d.putIn(d.engine.Lane(uint64(n)), n, uint64(n))
	}
}

// openLanes returns the numbers of the open lanes.
func (d *driver) openLanes() (open []int) {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	for _, l := range d.engine.state.lanes {
		if l.open {
			open = append(open, l.number)
		}
	}
	return open
}

// keysInFlight fails a test when a key is in two runs at once.
type keysInFlight struct {
	t    *testing.T
	mu   sync.Mutex
	keys map[uint64]*parcelBatch
}

func (k *keysInFlight) begin(b *parcelBatch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range b.Items {
		if other := k.keys[e.ID]; e.ID != 0 && other != nil && other != b {
			k.t.Errorf("key %d is in two runs at once: %v and %v", e.ID, numbers(other.Items), numbers(b.Items))
		}
		k.keys[e.ID] = b
	}
}

func (k *keysInFlight) end(b *parcelBatch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range b.Items {
		delete(k.keys, e.ID)
	}
}

// The number of lanes changes at random moments, beside retries, candidates, drops, flushes and a Close.
func TestNoKeyPassesAnotherOrRunsTwiceAtOnceWhileLanesOpenAndClose(t *testing.T) {
	t.Parallel() // one of the longest
	for seed := range uint64(150) {
		cfg := Config[parcel, int]{Lanes: 1 + int(seed%2), MaxLanes: 8 + 8*int(seed%2), MaxItems: 60, Limits: func(int) Limits {
			return Limits{Count: 7, Bytes: 200, Overhead: 5, Distinct: seed%3 == 0}
		}}
		withDriver(t, cfg, func(t *testing.T, d *driver) {
			c := newChaos(t, d, seed)
			flying := &keysInFlight{t: t, keys: map[uint64]*parcelBatch{}}
			d.onRun = func(b *parcelBatch) {
				flying.begin(b)
				if c.random(20) == 0 {
					key := uint64(c.random(100))
					d.engine.Drop(func(p *parcel) bool { return p.key == key }, errRefused)
				}
			}
			c.ended = flying.end
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				for ctx.Err() == nil {
					time.Sleep(time.Duration(1+c.random(4000)) * time.Millisecond)
					d.setLanes(cfg.Lanes << c.random(4))
					for home := range cfg.MaxLanes {
						d.engine.mu.Lock()
						s := &d.engine.state
						rests := len(s.lanes) == 0 // it has not begun, or has been empty for a while
						open := rests || s.laneAt(home).open
						d.engine.mu.Unlock()
						require.True(t, open, "home %d", home)
					}
				}
			})
			c.wait = func() { cancel(); all.Wait() }
			c.run()
		})
	}
}

func TestQueuedItemsMoveWhenALaneOpensOrCloses(t *testing.T) {
	withDriver(t, Config[parcel, int]{Lanes: 1, MaxLanes: 4, Linger: time.Hour, Limits: func(int) Limits { return Limits{Count: 100, Bytes: 10_000} }}, func(t *testing.T, d *driver) {
		d.putHome(0, 1, 2, 3, 4, 5, 6, 7)
		d.engine.FlushLane(0)
		synctest.Wait() // all are in flight
		d.putHome(8, 9, 10, 11)
		d.engine.FlushLane(0)
		d.putHome(12, 13, 14, 15)
		d.setLanes(4)
		require.Equal(t, []int{0}, d.openLanes(), "not while something is in flight")
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, []int{0, 1, 2, 3}, d.openLanes())
		// The urgent ones make their lanes urgent.
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, d.ran()[0])
		require.ElementsMatch(t, [][]int{{8, 12}, {9, 13}, {10, 14}, {11, 15}}, d.ran()[1:])
		time.Sleep(time.Second)

		d.putHome(16, 17, 18, 19, 20, 21, 22, 23)
		d.setLanes(2)
		require.Equal(t, []int{0, 1}, d.openLanes(), "at once: nothing is in flight")
		d.engine.FlushLane(3)
		synctest.Wait()
		require.Equal(t, []int{17, 21, 19, 23}, d.ran()[5], "lane 1 is the lane of the homes 1 and 3")
		require.Len(t, d.ran(), 6)
		d.setLanes(1)
		require.Equal(t, []int{0, 1}, d.openLanes(), "lane 1 has a run")
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, []int{0}, d.openLanes())
		d.mustClose()
		require.Equal(t, []int{16, 20, 18, 22}, d.ran()[6])
		require.Zero(t, d.engine.state.lanes[0].queue.bytes)
	})
}

// A key with a batch that waits to run again, or with a candidate, stays in its lane. The other lanes open.
func TestALaneInTroubleKeepsItsKeys(t *testing.T) {
	for _, aside := range []bool{false, true} {
		t.Run(fmt.Sprintf("aside %v", aside), func(t *testing.T) {
			withDriver(t, Config[parcel, int]{Lanes: 2, MaxLanes: 4}, func(t *testing.T, d *driver) {
				d.result = func(b *parcelBatch) parcelResult {
					if b.Items[0].Item.n == 2 {
						return parcelResult{Again: []*parcelBatch{b}, Aside: aside, Wait: time.Hour}
					}
					return parcelResult{Done: b.Items}
				}
				d.putHome(2)
				time.Sleep(time.Minute)
				d.setLanes(4)
				require.Equal(t, []int{0, 1, 3}, d.openLanes())
				d.mu.Lock()
				d.result = nil
				d.mu.Unlock()
				time.Sleep(time.Hour)
				d.putHome(1) // whatever happens next
				require.Equal(t, []int{0, 1, 2, 3}, d.openLanes())
				d.mustClose()
			})
		})
	}
}

// line is a link to a server, over which a producer sends as fast as the buffer has room.
type line struct {
	delay    time.Duration
	perItem  time.Duration // the server takes that long for each item, one after the other
	cfg      Config[parcel, int]
	pause    time.Duration // after each item
	keys     uint64        // if there are few; a batch then holds each once
	failEach int           // each so many-th request fails at first; 0 for none
	down     func() bool   // whether the server is unavailable; nil for never

	mu       sync.Mutex
	busyTill time.Time
	inFlight int
	most     int   // runs in flight at once
	fills    []int // items of each run
	requests int
}

func (l *line) send(t *testing.T, n int) (e *Engine[parcel, int]) {
	t.Helper()
	flying := &keysInFlight{t: t, keys: map[uint64]*parcelBatch{}}
	cfg := l.cfg
	cfg.Lanes, cfg.Slots, cfg.MaxBytes = 4, 1, 64<<20
	cfg.Limits = func(int) Limits { return Limits{Count: 100, Bytes: 1 << 20, Distinct: l.keys > 0} }
	cfg.Done = func([]Entry[parcel], error) {}
	cfg.Run = func(_ context.Context, b *parcelBatch) parcelResult {
		flying.begin(b)
		defer flying.end(b)
		l.mu.Lock()
		l.requests++
		failed := l.failEach > 0 && l.requests%l.failEach == 0
		l.inFlight++
		l.most = max(l.most, l.inFlight)
		l.fills = append(l.fills, len(b.Items))
		now := time.Now()
		if l.busyTill.Before(now) {
			l.busyTill = now
		}
		l.busyTill = l.busyTill.Add(time.Duration(len(b.Items)) * l.perItem)
		took := l.delay + l.busyTill.Sub(now)
		l.mu.Unlock()
		time.Sleep(took)
		l.mu.Lock()
		l.inFlight--
		l.mu.Unlock()
		if l.down != nil && l.down() {
			return parcelResult{Again: []*parcelBatch{b}, Wait: time.Second}
		}
		if failed {
			return parcelResult{Again: []*parcelBatch{b}, Wait: time.Millisecond}
		}
		return parcelResult{Done: b.Items}
	}
	e = New(cfg)
	l.produce(t, e, n)
	return e
}

func (l *line) produce(t *testing.T, e *Engine[parcel, int], n int) {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		key := 1 + random.Uint64N(cmp.Or(l.keys, 1<<40))
		require.NoError(t, e.Admit(t.Context(), parcel{n: i, key: key, size: 100}.entry(), e.Lane(key), false, true))
		if l.pause > 0 {
			time.Sleep(l.pause)
		}
	}
}

// lanesOf returns how many lanes an engine wants.
func lanesOf(e *Engine[parcel, int]) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.tuner.want
}

func mean(xs []int) float64 {
	sum := 0
	for _, x := range xs {
		sum += x
	}
	return float64(sum) / float64(len(xs))
}

func TestTheNumberOfLanesFollowsTheLink(t *testing.T) {
	adapting := Config[parcel, int]{MaxLanes: 64, MaxItems: 2000, LaneItems: 500}
	narrow := Config[parcel, int]{MaxLanes: 64, MaxItems: 2000}
	for _, row := range []struct {
		name  string
		line  *line
		n     int
		lanes int
		most  int
	}{
		{"a long way", &line{delay: 50 * time.Millisecond, cfg: adapting}, 200_000, 64, 64},
		{"a short way", &line{delay: 2 * time.Millisecond, cfg: adapting}, 200_000, 4, 4},
		{"a server that is the limit", &line{delay: 5 * time.Millisecond, perItem: 50 * time.Microsecond, cfg: adapting}, 100_000, 4, 8},
		{"a server that is the limit of many lanes", &line{delay: 50 * time.Millisecond, perItem: 50 * time.Microsecond, cfg: adapting}, 100_000, 16, 32},
		{"a small buffer", &line{delay: 50 * time.Millisecond, cfg: narrow}, 100_000, 8, 8},
		{"failures", &line{delay: 50 * time.Millisecond, failEach: 3, cfg: adapting}, 40_000, 4, 8},
		{"little to send", &line{delay: 50 * time.Millisecond, pause: 250 * time.Microsecond, cfg: adapting}, 40_000, 4, 4},
		{"just enough to send", &line{delay: 30 * time.Millisecond, pause: 100 * time.Microsecond, cfg: adapting}, 40_000, 4, 4},
		{"few keys", &line{delay: 50 * time.Millisecond, keys: 40, cfg: adapting}, 4000, 4, 4},
		{"a fixed number", &line{delay: 50 * time.Millisecond, cfg: Config[parcel, int]{MaxItems: 2000}}, 40_000, 4, 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				e := row.line.send(t, row.n)
				lanes := lanesOf(e)
				_, err := e.Close(t.Context())
				require.NoError(t, err)
				t.Logf("%d lanes, at most %d in flight, %v, %.1f items a run", lanes, row.line.most, time.Since(began), mean(row.line.fills))
				require.Equal(t, row.lanes, lanes)
				require.LessOrEqual(t, row.line.most, row.most)
				if row.line.pause == 0 && row.line.keys == 0 {
					middle := row.line.fills[len(row.line.fills)/2 : len(row.line.fills)*3/4]
					require.Greater(t, mean(middle), 98.0, "full batches")
				}
			})
		})
	}
}

// When there is less to send, fewer lanes keep the batches full.
func TestLanesCloseWhileBatchesAreFarFromFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: 50 * time.Millisecond, cfg: Config[parcel, int]{MaxLanes: 64, MaxItems: 2000, LaneItems: 500}}
		e := l.send(t, 200_000)
		require.Equal(t, 64, lanesOf(e))
		time.Sleep(time.Hour)
		require.Equal(t, 64, lanesOf(e), "nothing changes while nothing is sent")
		l.pause = 500 * time.Microsecond
		l.produce(t, e, 60_000)
		require.Equal(t, 4, lanesOf(e))
		_, err := e.Close(t.Context())
		require.NoError(t, err)
		require.Greater(t, mean(l.fills[len(l.fills)-100:]), 20.0)
		var open []int
		for _, lane := range e.state.lanes {
			if lane.open {
				open = append(open, lane.number)
			} else {
				require.Equal(t, queue[parcel]{}, lane.queue, "a closed lane keeps no memory")
			}
		}
		require.True(t, slices.Equal([]int{0, 1, 2, 3}, open), "%v", open)
	})
}

// In an outage of ten minutes the lanes that a long way has opened make no more requests than those of a short one.
func TestLanesThatWereOpenedWaitWhileTheServerIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var tried atomic.Int64
		l := &line{delay: 50 * time.Millisecond, cfg: Config[parcel, int]{MaxLanes: 64, MaxItems: 2000, LaneItems: 500}}
		l.down = func() bool {
			if down.Load() {
				tried.Add(1)
			}
			return down.Load()
		}
		e := l.send(t, 200_000)
		require.Equal(t, 64, lanesOf(e))
		fill := func() { l.produce(t, e, 20_000) }
		go func() { time.Sleep(10 * time.Minute); down.Store(false) }()
		down.Store(true)
		began := time.Now()
		fill()
		require.Greater(t, time.Since(began), 9*time.Minute, "the buffer is full")
		// Those that were in flight, and then one a second of each lane that may try.
		require.LessOrEqual(t, tried.Load(), int64(64+4*600))
		require.Greater(t, tried.Load(), int64(4*300))
		l.mu.Lock()
		l.most = 0
		l.mu.Unlock()
		l.produce(t, e, 100_000)
		_, err := e.Close(t.Context())
		require.NoError(t, err)
		require.Equal(t, 64, l.most, "all are used again")
	})
}

func TestUrgentItemsStayUrgentInTheLaneThatOpens(t *testing.T) {
	s := newState(&Config[parcel, int]{Lanes: 1, MaxLanes: 2, Slots: 1, MaxBytes: 1 << 20, Limits: func(int) Limits { return Limits{Count: 9, Bytes: 1000} }})
	for _, e := range parcels(1, 2, 3, 4, 5) {
		s.enqueue(&e, s.cfg.home(e.ID), false)
	}
	s.makeAllUrgent()
	s.tuner.want = 2
	s.spread()
	require.Equal(t, []int{2, 3}, []int{s.lanes[0].queued(), s.lanes[1].queued()})
	require.Equal(t, []int{2, 3}, []int{s.lanes[0].urgent, s.lanes[1].urgent})
}
