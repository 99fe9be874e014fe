package sim

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// director is the name of the run itself, among those of its actors.
const director = "director"

const streamName = "stream"

func consumerName(i int) string { return fmt.Sprintf("c%d", i) }

// world is a run: a server, the actors and the clock of a bubble.
type world struct {
	t    *testing.T
	l    *ledger
	s    schedule
	srv  *sequintest.Server
	calm chan struct{} // closed when nothing goes wrong any more

	mu        sync.Mutex // guards all below
	survivors []*worker
	away      int // faults that keep the server away
	taps      []*tap
}

func newWorld(t *testing.T, l *ledger) *world {
	t.Helper()
	w := &world{t: t, l: l, s: l.s, calm: make(chan struct{})}
	w.srv = sequintest.NewServer(complaints{t, l}, sequintest.Config{Compat: l.s.Mode, KeepRequests: keepRequests})
	l.begin = time.Now()
	return w
}

// keepRequests is above what any run makes; play looks that it was.
const keepRequests = 1_000_000

// complaints makes violations of what the server complains about, so that a failing schedule can be run again.
type complaints struct {
	testing.TB
	l *ledger
}

func (c complaints) Errorf(format string, args ...any) {
	c.l.violate("the server can be stopped", format, args...)
}

// newTappedClient returns a client with connections of its own, known by its name.
func (w *world) newTappedClient(name string, timeout time.Duration) (*sequin.Client, *tap) {
	connections := w.srv.Client()
	t := newTap(w.l, name, connections.Transport)
	client, err := sequin.NewClient(sequin.Config{BaseURL: w.srv.URL, UserAgent: name, Timeout: timeout, HTTPClient: &http.Client{Transport: t}})
	if err != nil {
		w.l.violate("a schedule makes sense", "client %s: %v", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taps = append(w.taps, t)
	return client, t
}

func (w *world) newClient(name string, timeout time.Duration) *sequin.Client {
	client, _ := w.newTappedClient(name, timeout)
	return client
}

// play runs the schedule, waits until everything is done, and writes down how it ended.
func (w *world) play() {
	defer func() {
		for _, t := range w.taps {
			t.end()
		}
		w.srv.Close()
	}()
	w.prepare()
	var publishers, workers, faults sync.WaitGroup
	for i, p := range w.s.Publishers {
		publishers.Go(func() { w.publish(i, p) })
	}
	for i, p := range w.s.Workers {
		workers.Go(func() { w.work(fmt.Sprintf("w%d", i), p) })
	}
	for _, f := range w.s.Faults {
		faults.Go(func() { w.suffer(f) })
	}
	faults.Wait()
	publishers.Wait()
	workers.Wait()
	close(w.calm)
	w.fill()
	w.drain()
	w.finish()
}

func (w *world) prepare() {
	admin := w.newClient(director, time.Minute)
	ctx := context.Background()
	_, err := admin.CreateStream(ctx, streamName, w.s.Stream)
	require.NoError(w.t, err)
	for i, c := range w.s.Consumers {
		_, err := admin.CreateConsumer(ctx, streamName, consumerName(i), c.Filter,
			sequin.ConsumerOptions{AckWait: c.AckWait, MaxDeliver: c.MaxDeliver, MaxWaiting: 4})
		require.NoError(w.t, err)
	}
}

// fill gives each consumer that nobody works for a worker. The others' survivors must do the rest by themselves: what
// went wrong must not have harmed them for good.
func (w *world) fill() {
	for i := range w.s.Consumers {
		if !slices.ContainsFunc(w.survivors, func(x *worker) bool { return x.plan.Consumer == i }) {
			w.work(fmt.Sprintf("last%d", i), workerPlan{Consumer: i, Timeout: 30 * time.Second, Readers: 1, End: survive})
		}
	}
}

// patience is how long the survivors have for what is left: several leases of the longest kind, and then as much again as
// backoffs and fall-backs take.
const patience = 10 * time.Minute

// drain waits until every consumer is done.
func (w *world) drain() {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Second) {
		if w.left() == "" {
			return
		}
	}
	w.l.violate("everything is delivered in the end", "after %v of calm the server still has %s", patience, w.left())
}

// left says what some consumer has not been done with.
func (w *world) left() (left string) {
	state, _ := w.srv.Stream(streamName)
	for _, c := range state.Consumers {
		if c.Available+len(c.Outstanding) > 0 {
			left += fmt.Sprintf("%d available and %d delivered of %s; ", c.Available, len(c.Outstanding), c.Name)
		}
	}
	return left
}

// finish lets every lease end, looks at what the survivors hold, and stops them.
func (w *world) finish() {
	time.Sleep(time.Minute)
	for _, x := range w.survivors {
		w.l.rooms = append(w.l.rooms, room{x.name, x.sub.Stats()})
	}
	for _, x := range w.survivors {
		x.stop(closed, time.Minute)
	}
	w.l.requests = w.srv.Requests()
	w.l.final, _ = w.srv.Stream(streamName)
	if kept, all := len(w.l.requests), w.srv.Count(sequintest.Any); kept != all {
		w.l.violate("the journal holds everything", "it holds %d of %d requests", kept, all)
	}
	w.l.complete = true
}
