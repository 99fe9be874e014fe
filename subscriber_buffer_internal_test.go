package sequin

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/flow"
	"github.com/sequin-go/sequin/internal/lease"
)

// buffered returns a buffer with n deliveries, numbered from 0, whose leases of 10 s begin at a time.
func buffered(at time.Time, n int) *deliveryBuffer {
	terms := lease.NewTerms(10*time.Second, 0)
	f := &fetched{lease: lease.New(at, 0, at, terms, terms, context.Background())}
	b := &deliveryBuffer{channel: make(chan Delivery, 1000)}
	ds := make([]Delivery, n)
	for i := range ds {
		ds[i] = Delivery{Key: strconv.Itoa(i), state: &deliveryState{fetched: f}}
	}
	if n > 0 {
		b.add(ds)
		b.offerAdded(at)
	}
	return b
}

// read reads from the channel without waiting, and returns the keys.
func (b *deliveryBuffer) read(n int) (keys []string) {
	for range n {
		select {
		case d := <-b.channel:
			keys = append(keys, d.Key)
		default:
		}
	}
	return keys
}

func TestOneDeliveryIsInTheChannel(t *testing.T) {
	now := time.Now()
	b := buffered(now, 5)
	require.Equal(t, []string{"0"}, b.read(5))
	require.True(t, b.waits())
	require.False(t, b.offer(now))
	require.False(t, b.offer(now))
	require.Equal(t, []string{"1"}, b.read(5), "a settle moves the next one there")
	require.Equal(t, 3, b.len())

	paused := now.Add(time.Minute)
	require.True(t, b.offer(paused), "after a pause the loop is to look")
	require.Empty(t, b.read(5), "nothing expired is delivered")
	require.Len(t, b.drain(), 3)
	require.Zero(t, b.len())
}

// A loop that looks now and then would not notice for a while that the buffer is empty.
func TestTheLoopIsWokenOnceByAProgramThatTakesAll(t *testing.T) {
	now := time.Now()
	b := buffered(now, 5)
	b.idle.Store(true)
	require.True(t, b.sleeps(), "as often as it is called")
	require.True(t, b.sleeps())
	taken, check := b.take(now, nil, 5)
	require.Len(t, taken, 5)
	require.True(t, check)
	require.False(t, b.sleeps())
	require.False(t, b.wokenUp())
}

func TestAProgramThatSettlesWhatItReadsFindsOneDeliveryInTheChannel(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	for i := range uint64(50) {
		require.Equal(t, []string{strconv.Itoa(int(i))}, b.read(5))
		b.check(now, i+1, i, false) // the loop may check at any time
		b.check(now, i+1, i, false)
		b.offer(now) // the settle
		require.Len(t, b.channel, 1)
		now = now.Add(time.Millisecond)
	}
}

func TestTheChannelOpensForAProgramThatReadsAheadAndClosesAfterwards(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	require.Len(t, b.read(1), 1)
	b.check(now, 1, 0, false)
	require.Len(t, b.channel, 1)
	require.Len(t, b.read(1), 1)
	b.check(now, 2, 0, false)
	require.Len(t, b.channel, 98, "nothing was settled between two looks that found it empty")
	require.LessOrEqual(t, b.pause(time.Hour), minOpen)

	require.Equal(t, "2", b.read(1)[0])
	now = now.Add(minOpen)
	b.check(now, 3, 0, false)
	require.Len(t, b.channel, 97, "it reads on")
	now = now.Add(minOpen)
	b.check(now, 3, 0, false)
	require.Len(t, b.channel, 1, "it has stopped reading")
	require.Equal(t, []string{"3"}, b.read(5))
	b.offer(now)
	require.Equal(t, []string{"4"}, b.read(5), "in order")
	require.Equal(t, "5", b.drain()[0].Key)
}

// opened returns a buffer with n deliveries and an open channel of four, and the delivery that the loop is to send next.
func opened(t *testing.T, now time.Time, n int) (b *deliveryBuffer, next Delivery, room chan<- Delivery) {
	t.Helper()
	b = buffered(now, 0)
	b.channel = make(chan Delivery, 4)
	b.add(buffered(now, n).drain())
	b.setOpen(now, true)
	require.Len(t, b.channel, 4)
	next, room = b.next(now, false)
	require.Equal(t, "4", next.Key)
	return b, next, room
}

func keysOfDeliveries(ds []Delivery) (keys []string) {
	for _, d := range ds {
		keys = append(keys, d.Key)
	}
	return keys
}

func TestNobodySendsBeforeTheDeliveryThatTheLoopSends(t *testing.T) {
	now := time.Now()
	b, next, room := opened(t, now, 10)
	require.Equal(t, []string{"0", "1", "2", "3"}, b.read(10))
	require.False(t, b.offer(now))
	require.Empty(t, b.channel)
	taken, _ := b.take(now, buffered(now, 1).drain(), 10)
	require.Len(t, taken, 1, "another goroutine may get the one that is sent")
	room <- next
	b.sent()
	require.Equal(t, 6, b.len())
	b.offer(now)
	require.Equal(t, []string{"4", "5", "6", "7"}, b.read(10))
	b.offer(now)
	require.Equal(t, []string{"8", "9"}, b.read(10))
}

func TestADeliveryThatIsNotSentStaysFirst(t *testing.T) {
	now := time.Now()
	b, _, _ := opened(t, now, 6)
	b.unsent()
	require.Equal(t, 6, b.len())
	require.Equal(t, []string{"0", "1", "2", "3"}, b.read(10))
	b.offer(now)
	require.Equal(t, []string{"4", "5"}, b.read(10))
}

func TestAProgramThatTakesAllGetsTheDeliveryThatTheLoopSends(t *testing.T) {
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		b, next, room := opened(t, now, 10)
		go func() {
			room <- next
			b.sent()
		}()
		synctest.Wait()
		taken, _ := b.take(now, nil, 10)
		require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, keysOfDeliveries(taken))
		synctest.Wait()
		require.Zero(t, b.len())
	})
}

func TestASubscriberWithFewMessagesDoesNotKeepALargeSlice(t *testing.T) {
	now := time.Now()
	b := buffered(now, 0)
	large := make([]Delivery, 0, 1000)
	for range smallInARow + 1 {
		require.NotZero(t, cap(large), "a busy Subscriber gets small answers, too")
		b.add(append(large, buffered(now, 10).drain()...))
		large = b.spare(0, 2)
	}
	require.Nil(t, large)
	b.reuse(make([]Delivery, 0, 1000))
	b.add(append(b.spare(0, 2), buffered(now, 900).drain()...))
	b.reuse(make([]Delivery, 0, 1000))
	b.add(append(b.spare(0, 2), buffered(now, 10).drain()...))
	require.NotNil(t, b.spare(0, 2), "large answers come again")
	b.reuse(make([]Delivery, 0, 1000))
	b.dropSpares()
	require.Nil(t, b.spare(0, 2))
}

func TestADeliveryBehindTheOneThatTheLoopSentIsNotLost(t *testing.T) {
	now := time.Now()
	b, next, room := opened(t, now, 20)
	require.Len(t, b.read(4), 4)
	room <- next
	taken, _ := b.take(now, nil, 3)
	require.Equal(t, []string{"4", "5", "6"}, keysOfDeliveries(taken))
	b.sent()
	b.unsent()
	require.Equal(t, 13, b.len())
	var keys []string
	for range 20 {
		b.offer(now)
		keys = append(keys, b.read(1)...)
	}
	require.Equal(t, []string{"7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19"}, keys)
}

func TestTheLoopSendsNothingThatHasExpired(t *testing.T) {
	now := time.Now()
	b, _, _ := opened(t, now, 20)
	b.unsent()
	require.Len(t, b.read(4), 4)
	_, room := b.next(now.Add(time.Minute), false)
	require.Nil(t, room)
	require.Empty(t, b.read(20))
}

func TestTheLoopSendsNothingToHandlers(t *testing.T) {
	now := time.Now()
	b, _, _ := opened(t, now, 20)
	b.unsent()
	_, room := b.next(now, true)
	require.Nil(t, room)
}

func TestABufferWhoseLastDeliveryTheLoopHasSentIsEmpty(t *testing.T) {
	now := time.Now()
	b, next, room := opened(t, now, 5)
	require.Len(t, b.read(1), 1)
	room <- next
	b.sent()
	require.Len(t, b.read(5), 4)
	require.Zero(t, b.len())
	require.False(t, b.waits())
}

func TestTheLoopThatSendsIsWokenByAProgramThatTakes(t *testing.T) {
	now := time.Now()
	b, _, _ := opened(t, now, 10)
	b.idle.Store(true)
	_, check := b.take(now, nil, 10)
	require.True(t, check)
}

func TestABatchThatHasReturnedLateDeliveriesIsDueLater(t *testing.T) {
	now := time.Now()
	var b partialBatch
	for _, age := range []time.Duration{0, 5 * time.Second, 3 * time.Second} {
		b.add(buffered(now.Add(-age), 1).drain()[0])
	}
	early := b.by
	require.Len(t, b.removeLate(early.Add(time.Millisecond)), 1)
	require.Equal(t, b.items[1].state.Lease().HandOverBy, b.by)
}

func TestTheChannelOpensAtOnceForAProgramThatWaitsForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := buffered(now, 1)
		read := make(chan []Delivery, 1)
		go func() { read <- []Delivery{<-b.channel, <-b.channel} }()
		synctest.Wait()
		b.add(buffered(now, 100).drain())
		b.added = false // they were there before
		b.check(now, 1, 0, false)
		require.Len(t, b.channel, 99)
		require.Equal(t, []string{"0", "0"}, keysOfDeliveries(<-read))

		b = buffered(now, 100)
		require.Len(t, b.read(1), 1)
		b.check(now, 1, 0, false)
		require.Len(t, b.channel, 1, "a program that works does not wait")
	})
}

// It counts what is read and what is left at different moments.
func TestHandedOutIsACounter(t *testing.T) {
	var c subscriberCounts
	require.EqualValues(t, 5, c.handOut(5))
	require.EqualValues(t, 5, c.handOut(4))
	require.EqualValues(t, 6, c.handOut(6))
}

// Receives may be answered out of order.
func TestABatchReturnsEachDeliveryWhenItsOwnLeaseIsNearlyOver(t *testing.T) {
	now := time.Now()
	var b partialBatch
	for _, age := range []time.Duration{0, 5 * time.Second, 3 * time.Second} {
		b.add(buffered(now.Add(-age), 1).drain()[0])
	}
	early, late := b.items[1].state.Lease().HandOverBy, b.items[0].state.Lease().HandOverBy
	require.Equal(t, early, b.by)
	require.Empty(t, b.removeLate(early.Add(-time.Millisecond)))
	require.Len(t, b.removeLate(early.Add(time.Millisecond)), 1)
	require.Len(t, b.items, 2)
	require.Len(t, b.removeLate(late.Add(time.Millisecond)), 2)
	require.Empty(t, b.items)
}

// A program that reads while deliveries are taken out of the channel would get a later one first.
func TestNothingIsTakenFromAProgramThatReads(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	require.Len(t, b.read(1), 1)
	b.check(now, 1, 0, false)
	require.Len(t, b.read(1), 1)
	b.check(now, 2, 0, false)
	require.Len(t, b.channel, 98)

	for read := uint64(12); read <= 92; read += 10 { // from now on it settles what it reads
		require.Len(t, b.read(10), 10)
		now = now.Add(minOpen)
		b.check(now, read, read, false)
		require.Len(t, b.channel, int(100-read), "they stay")
		if read == 12 {
			b.add(buffered(now, 5).drain())
			b.offerAdded(now)
			require.Len(t, b.channel, 88, "further ones wait in the queue")
		}
	}
	require.Len(t, b.read(7), 7)
	b.check(now, 99, 99, false)
	require.Len(t, b.channel, 1)
	require.Len(t, b.read(5), 1)
	require.True(t, b.waits(), "one at a time again")
}

func TestAProgramThatReadsAheadAgainFindsTheChannelOpen(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	require.Len(t, b.read(1), 1)
	b.check(now, 1, 0, false)
	require.Len(t, b.read(1), 1)
	b.check(now, 2, 0, false)
	require.Len(t, b.read(10), 10)
	now = now.Add(minOpen)
	b.check(now, 12, 12, false)
	b.add(buffered(now, 5).drain())
	b.offerAdded(now)
	require.Len(t, b.channel, 88)
	require.Len(t, b.read(10), 10)
	now = now.Add(minOpen)
	b.check(now, 22, 12, false)
	require.Len(t, b.channel, 83)
}

func TestTheChannelIsOpenForHandlers(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	for range 3 {
		b.check(now, 0, 0, true)
		require.Len(t, b.channel, 100)
		now = now.Add(time.Minute)
	}
}

func TestADeliveryGoesToEveryGoroutineThatWaits(t *testing.T) {
	now := time.Now()
	b := buffered(now, 0)
	got := make(chan Delivery)
	for range 3 {
		go func() { got <- <-b.channel }()
	}
	for i := range 3 { // a read after the deadline gets at most the one in the channel
		b.add(buffered(now, 1).drain())
		b.offerAdded(now)
		d := <-got
		require.NotNil(t, d.state, i)
	}
}

func TestABufferUsesItsMemoryAgain(t *testing.T) {
	now := time.Now()
	b := buffered(now, 100)
	for range 10_000 {
		require.Len(t, b.read(1), 1)
		b.add(append(b.spare(0, 2), buffered(now, 1).drain()...))
		b.offerAdded(now)
	}
	require.Equal(t, 100, b.len())
	room := cap(b.queue)
	for _, ds := range slices.Concat(b.later, b.spares) {
		room += cap(ds)
	}
	require.Less(t, room, 400)
}

func TestTheSliceOfAnAnswerIsUsedAgainWhenItsDeliveriesHaveLeft(t *testing.T) {
	now := time.Now()
	for name, leave := range map[string]func(b *deliveryBuffer, n int) (keys []string){
		"settled": func(b *deliveryBuffer, n int) (keys []string) {
			for range n {
				keys = append(keys, b.read(1)...)
				b.offer(now)
			}
			return keys
		},
		"read ahead": func(b *deliveryBuffer, n int) []string {
			b.setOpen(now, true)
			keys := b.read(n)
			b.setOpen(now, false)
			return keys
		},
		"taken": func(b *deliveryBuffer, n int) (keys []string) {
			taken, _ := b.take(now, nil, n)
			for _, d := range taken {
				keys = append(keys, d.Key)
			}
			return keys
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &deliveryBuffer{channel: make(chan Delivery, 5)}
			first, second := buffered(now, 3).drain(), buffered(now, 5).drain()
			b.add(first)
			b.add(second)
			b.offerAdded(now)
			require.Nil(t, b.spare(0, 2))
			require.Equal(t, []string{"0", "1", "2", "0"}, leave(b, 4))
			require.Equal(t, 4, b.len())
			reused := b.spare(0, 2)
			require.Same(t, &first[0], &reused[:1][0])
			require.Empty(t, reused)
			require.Equal(t, make([]Delivery, 3), first, "it holds no message")
			require.Nil(t, b.spare(0, 2), "the second one is in use")
			require.Equal(t, []string{"1", "2", "3", "4"}, leave(b, 4))
			require.Zero(t, b.len())
			require.NotNil(t, b.spare(0, 2))
		})
	}
}

// An append that has to grow a slice of a thousand deliveries copies 170 KB.
func TestASliceHasRoomForTheAnswer(t *testing.T) {
	b := buffered(time.Now(), 0)
	for _, want := range []int{0, 10, 5, 100} {
		ds := b.spare(want, 2)
		require.Empty(t, ds)
		require.GreaterOrEqual(t, cap(ds), want)
		b.reuse(ds)
	}
	large := b.spare(50, 2)
	require.Equal(t, 100, cap(large), "that of the last answer")

	p := &receiving{size: 1000}
	require.Zero(t, p.likely(1<<20), "no message was received yet")
	p.each = 400
	require.Equal(t, 1000, p.likely(500_000), "it asked for no more")
	require.Equal(t, 562, p.likely(200_000), "somewhat more than 500")
}

func TestASmallAnswerDoesNotOccupyALargeSlice(t *testing.T) {
	now := time.Now()
	b := buffered(now, 2)
	large := append(make([]Delivery, 0, 1000), buffered(now, 10).drain()...)
	b.add(large)
	require.Len(t, b.later, 1)
	require.Less(t, cap(b.later[0]), 20)
	require.Equal(t, "9", b.later[0][9].Key)
	require.Equal(t, make([]Delivery, 10), large)
	require.Equal(t, 1000, cap(b.spare(0, 2)))
}

// The memory of the answers of a busy time is not kept.
func TestAsManySlicesAreKeptAsReceivesMayRun(t *testing.T) {
	b := buffered(time.Now(), 0)
	for range 10 {
		b.reuse(make([]Delivery, 3))
	}
	all := b.spares
	require.NotNil(t, b.spare(0, 2))
	require.Len(t, b.spares, 2)
	for _, gone := range all[2:10] {
		require.Nil(t, gone)
	}
}

// HandleBatch's collector takes its batch for complete when all room is taken and the channel is empty.
func TestAllRoomIsTakenOnlyOnceDeliveriesAreInTheChannel(t *testing.T) {
	now := time.Now()
	ds := buffered(now, 1).drain()
	f := ds[0].state.fetched
	c, err := NewClient(Config{})
	require.NoError(t, err)
	cfg, err := c.checkSubscriber(SubscriberConfig{MaxInFlight: 1})
	require.NoError(t, err)
	s := &Subscriber{client: c, cfg: cfg, ledger: lease.NewLedger[receivedStates, settling](1), full: flow.NewFull()}
	s.buffer.channel = make(chan Delivery, 1)
	s.ledger.Add(f.lease, 1, 100, receivedStates{f, [][]deliveryState{make([]deliveryState, 1)}})
	lp := newSubscriberLoop(s)
	lp.push(f, ds)
	require.Empty(t, s.buffer.channel)
	lp.startReceives(now)
	require.Empty(t, lp.receives)
	require.True(t, s.full.Is())
	require.Len(t, s.buffer.channel, 1)
}
