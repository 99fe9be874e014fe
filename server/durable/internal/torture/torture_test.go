package torture

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// load runs a load on a store in memory and returns the events.
func load(t *testing.T, st store.Store, plan Plan) []Event {
	t.Helper()
	var j Journal
	require.NoError(t, NewWorkload(st, plan, j.Add).Run(t.Context()))
	return j.Events()
}

func TestALoadOnASoundStoreIsWithoutFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		require.NoError(t, Setup(t.Context(), st))
		a := NewAccounts()
		for seed := range uint64(3) {
			plan := a.Plan()
			plan.Seed, plan.Steps = seed, 200
			for _, e := range load(t, st, plan) {
				a.Apply(e)
			}
			require.Empty(t, a.Check(t.Context(), st, false))
		}
		require.Empty(t, a.Drain(t.Context(), st, func() { time.Sleep(MaxWait) }))
	})
}

// find finds a stream.
func find(st store.Store, name string) store.Stream {
	s, err := st.Stream(context.Background(), name)
	if err != nil {
		panic(err)
	}
	return s
}

// completed returns the events that begin and end an operation of the consumer of all messages.
func completed(e Event, d ...Delivery) []Event {
	e.Stream, e.Consumer, e.Deliveries = logStream, allConsumer, d
	asked, done := e, e
	asked.Phase, done.Phase = Asked, Done
	if e.Op == Receive {
		asked.Deliveries = nil
	}
	return []Event{asked, done}
}

// receiveLast sends a message, acks all before it, and returns the delivery of the last, of which there is no event.
func receiveLast(st store.Store, events []Event) ([]Event, store.Consumer, Delivery) {
	ctx := context.Background()
	time.Sleep(MaxWait) // what the load has left is available then
	_, _ = find(st, logStream).Send(ctx, store.Once{}, batch(0, 42))
	events = append(events, Event{Op: Send, Phase: Done, Stream: logStream, Send: 42})
	c, _ := find(st, logStream).Consumer(ctx, allConsumer)
	for {
		got, _ := c.Receive(ctx, 1, nil)
		m, _ := parse(got[0].Message)
		d := Delivery{m, got[0].Seq, got[0].ID, got[0].Count}
		if m.Send == 42 {
			return events, c, d
		}
		_ = c.Settle(ctx, []store.ID{d.ID}, store.Ack)
		events = append(events, completed(Event{Op: Settle}, d)...)
	}
}

// breakages break what a store holds, or what was said about it. want is what the accounts say then.
var breakages = map[string]struct {
	broken func(st store.Store, events []Event) []Event
	want   string
}{
	"a send is lost": {func(_ store.Store, events []Event) []Event {
		return append(events, Event{Op: Send, Phase: Done, Stream: logStream, Send: 50})
	}, "log: send 0.50 was answered and is lost"},
	"a version is lost": {func(_ store.Store, events []Event) []Event {
		return append(events, Event{Op: Send, Phase: Done, Stream: keysStream, Send: 50})
	}, "keys: version 0.50.0 of k.0.0 was answered; there is 0.30.0"},
	"the newest of a retained stream is lost": {func(_ store.Store, events []Event) []Event {
		return append(events, Event{Op: Send, Phase: Asked, Stream: keepStream, Send: 50}, Event{Op: Send, Phase: Done, Stream: keepStream, Send: 50})
	}, "keep: send 0.50 was answered and is missing, while an older one is there"},
	"a send is there that was refused": {func(st store.Store, events []Event) []Event {
		_, _ = find(st, logStream).Send(context.Background(), store.Once{}, batch(0, 50))
		return append(events, Event{Op: Send, Phase: Asked, Stream: logStream, Send: 50}, Event{Op: Send, Phase: Refused, Stream: logStream, Send: 50})
	}, "log: message 0.50.0 is there, but its send was never asked for or was refused"},
	"half of a batch is there": {func(st store.Store, events []Event) []Event {
		_, _ = find(st, logStream).Send(context.Background(), store.Once{}, batch(0, 50)[:2])
		return append(events, Event{Op: Send, Phase: Asked, Stream: logStream, Send: 50})
	}, "log: 2 of 3 messages of send 0.50 are there"},
	"a send is there twice": {func(st store.Store, events []Event) []Event {
		_, _ = find(st, logStream).Send(context.Background(), store.Once{}, batch(0, 39))
		return events
	}, "log: message 0.39.0 is there twice"},
	"data is cut": {func(st store.Store, events []Event) []Event {
		_, _ = find(st, logStream).Send(context.Background(), store.Once{}, []store.Message{{Key: "k.0.0", Data: "0.50.0 0.5"}})
		return append(events, Event{Op: Send, Phase: Asked, Stream: logStream, Send: 50})
	}, "is not what was sent: k.0.0=\"0.50.0 0.5\""},
	"an ack is lost": {func(st store.Store, events []Event) []Event {
		_, _ = find(st, logStream).Send(context.Background(), store.Once{}, batch(0, 42))
		d := []Delivery{{Message: Message{0, 42, 0}}}
		return append(events, Event{Op: Send, Phase: Done, Stream: logStream, Send: 42},
			Event{Op: Settle, Phase: Asked, Stream: logStream, Consumer: allConsumer, Deliveries: d},
			Event{Op: Settle, Phase: Done, Stream: logStream, Consumer: allConsumer, Deliveries: d})
	}, "log/all: message 0.42.0 was acked, and is unsettled again"},
	"a message is settled by nobody": {func(st store.Store, events []Event) []Event {
		events, c, d := receiveLast(st, events)
		_ = c.Settle(context.Background(), []store.ID{d.ID}, store.Ack)
		return events
	}, "log/all: message 0.42.0 was never acked, and is settled"},
	"a delay is lost": {func(st store.Store, events []Event) []Event {
		events, c, d := receiveLast(st, events)
		_ = c.Settle(context.Background(), []store.ID{d.ID}, store.Nack)
		return append(events, completed(Event{Op: Settle, How: store.Nack, At: time.Now(), Wait: longDelay}, d)...)
	}, "log/all: message 0.42.0 is 0 until "},
	"an extension is lost": {func(st store.Store, events []Event) []Event {
		events, _, d := receiveLast(st, events)
		return append(events, completed(Event{Op: Extend, At: time.Now(), Wait: MaxWait}, d)...)
	}, "log/all: message 0.42.0 is 1 until "},
	"a delayed message is delivered": {func(_ store.Store, events []Event) []Event {
		d := Delivery{Message: Message{0, 39, 0}, Count: 1}
		events = append(events, completed(Event{Op: Settle, How: store.Nack, At: time.Now(), Wait: longDelay}, d)...)
		return append(events, completed(Event{Op: Receive, At: time.Now().Add(longDelay - 1)}, d)...)
	}, ": it was hidden until "},
	"a lease ends that nothing ended": {func(_ store.Store, events []Event) []Event {
		d := Delivery{Message: Message{0, 39, 0}, Count: 1}
		events = append(events, completed(Event{Op: Receive, At: time.Now().Add(MaxWait)}, d)...)
		return append(events, Event{Op: Extend, Phase: Done, Stream: logStream, Consumer: allConsumer, Ended: []Delivery{d}})
	}, "log/all: the lease of message 0.39.0 (00000000-0000-0000-0000-000000000000) has ended"},
	"a stream is back": {func(st store.Store, events []Event) []Event {
		_, _ = st.CreateStream(context.Background(), store.StreamOptions{Name: "t.7"})
		return append(events, Event{Op: Create, Phase: Done, Stream: "t.7"}, Event{Op: Delete, Phase: Asked, Stream: "t.7"}, Event{Op: Delete, Phase: Done, Stream: "t.7"})
	}, "stream t.7 was deleted, and is there"},
	"a consumer is back": {func(st store.Store, events []Event) []Event {
		s, _ := st.CreateStream(context.Background(), store.StreamOptions{Name: "t.99"})
		_, _ = s.CreateConsumer(context.Background(), store.ConsumerOptions{Name: churnedConsumer})
		return append(events, Event{Op: Create, Phase: Done, Stream: "t.99"}, Event{Op: Create, Phase: Done, Stream: "t.99", Consumer: churnedConsumer},
			Event{Op: Delete, Phase: Done, Stream: "t.99", Consumer: churnedConsumer})
	}, "consumer t.99/gone was deleted, and is there"},
	"a consumer is lost": {func(st store.Store, events []Event) []Event {
		_, _ = st.CreateStream(context.Background(), store.StreamOptions{Name: "t.99"})
		return append(events, Event{Op: Create, Phase: Done, Stream: "t.99"}, Event{Op: Create, Phase: Done, Stream: "t.99", Consumer: churnedConsumer})
	}, "consumer t.99/gone was created, and is not there"},
	"a stream is there that nobody asked for": {func(st store.Store, events []Event) []Event {
		_, _ = st.CreateStream(context.Background(), store.StreamOptions{Name: "t.99"})
		return events
	}, "stream t.99 was never created"},
	"a stream is there that was refused": {func(st store.Store, events []Event) []Event {
		_, _ = st.CreateStream(context.Background(), store.StreamOptions{Name: "t.99"})
		return append(events, Event{Op: Create, Phase: Asked, Stream: "t.99"}, Event{Op: Create, Phase: Refused, Stream: "t.99"})
	}, "stream t.99 was never created"},
	"an acked message is delivered": {func(_ store.Store, events []Event) []Event {
		d := []Delivery{{Message: Message{0, 0, 0}, Count: 1}}
		return append(events, Event{Op: Settle, Phase: Asked, Stream: logStream, Consumer: allConsumer, Deliveries: d},
			Event{Op: Settle, Phase: Done, Stream: logStream, Consumer: allConsumer, Deliveries: d},
			Event{Op: Receive, Phase: Done, Stream: logStream, Consumer: allConsumer, Deliveries: d})
	}, "log/all: message 0.0.0, delivery 1 (00000000-0000-0000-0000-000000000000): it was acked by event "},
}

func TestTheAccountsFindWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	for name, tt := range breakages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := store.NewMemory()
				require.NoError(t, Setup(ctx, st))
				events := load(t, st, Plan{Steps: 40})
				a := NewAccounts()
				for _, e := range tt.broken(st, events) {
					a.Apply(e)
				}
				faults := a.Check(ctx, st, false)
				require.NotEmpty(t, faults)
				require.Contains(t, strings.Join(faults, "\n"), tt.want)
			})
		})
	}
}

// TestAPurgeThatDidNotTakePlaceIsAFault tells the accounts of a purge, or of a send, that the store has not made.
func TestAPurgeThatDidNotTakePlaceIsAFault(t *testing.T) {
	for _, o := range purgedStreams {
		for name, steps := range map[string]int{"purge": purgeEvery, "send": purgeEvery - 1} {
			t.Run(o.Name+", "+name, func(t *testing.T) {
				st, a := store.NewMemory(), NewAccounts()
				require.NoError(t, Setup(t.Context(), st))
				done := func(n int) {
					for _, phase := range []Phase{Asked, Done} {
						a.Apply(Event{Op: Purge, Phase: phase, Stream: o.Name, Send: n})
					}
				}
				for n := range steps - 1 {
					_, err := find(st, o.Name).Send(t.Context(), once(o.Name, 0, n), batch(0, n))
					require.NoError(t, err)
					done(n)
				}
				require.Empty(t, a.Check(t.Context(), st, false))
				done(steps - 1)
				require.Len(t, a.Check(t.Context(), st, false), 1)
			})
		}
	}
}
