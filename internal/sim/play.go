package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// play runs the schedule, waits until every message is delivered, and records the end.
func (w *world) play() {
	defer w.close()
	w.prepare()
	survivors := w.runSchedule()
	close(w.faultsOver)
	survivors = append(survivors, w.fill(survivors)...)
	w.drain()
	w.finish(survivors)
}

func (w *world) prepare() {
	if w.s.Sinks {
		w.prepareSinks()
		return
	}
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

// runSchedule runs the publishers, workers and faults of the schedule to their end, and returns the workers that survive.
func (w *world) runSchedule() (survivors []*worker) {
	running := make([]*worker, len(w.s.Workers))
	var programs sync.WaitGroup
	run := w.publish
	if w.s.Sinks {
		run = w.changeRows
	}
	for i, p := range w.s.Publishers {
		programs.Go(func() { run(i, p) })
	}
	for i, p := range w.s.Workers {
		programs.Go(func() { running[i] = w.work(fmt.Sprintf("w%d", i), p) })
	}
	for _, p := range w.s.Purges {
		programs.Go(func() { w.purge(p) })
	}
	for _, f := range w.s.Faults {
		programs.Go(func() { w.inject(f) })
	}
	programs.Wait()
	return slices.DeleteFunc(running, func(x *worker) bool {
		if x != nil && x.sub.Err() != nil { // it has ended by itself, and its program ends too
			x.stop(closed, time.Minute)
			return true
		}
		return x == nil
	})
}

// fill starts a worker for each consumer that has none. Consumers with a surviving worker get no help, because the faults
// must not have harmed it for good.
func (w *world) fill(survivors []*worker) (started []*worker) {
	for i := range w.s.Consumers {
		if slices.ContainsFunc(survivors, func(x *worker) bool { return x.plan.Consumer == i }) {
			continue
		}
		plan := workerPlan{Consumer: i, Timeout: 30 * time.Second, SaidWait: w.s.Consumers[i].AckWait, Readers: 1, End: survive}
		if x := w.work(fmt.Sprintf("last%d", i), plan); x != nil {
			started = append(started, x)
		}
	}
	return started
}

// drainTimeout is how long the survivors have for the remaining messages: several of the longest leases, and as much again
// for backoffs and fallbacks.
const drainTimeout = 10 * time.Minute

// drain waits until no consumer has messages left.
func (w *world) drain() {
	for began := time.Now(); time.Since(began) < drainTimeout; time.Sleep(time.Second) {
		if w.left() == "" {
			return
		}
	}
	w.rec.violate("every message is delivered in the end", "%v after the last fault the server still has %s", drainTimeout, w.left())
}

// left describes the messages that consumers have not acked yet; it is empty when there are none.
func (w *world) left() (left string) {
	if w.s.Sinks {
		return w.source.left()
	}
	state, _ := w.srv.Stream(streamName)
	for _, c := range state.Consumers {
		if c.Available+len(c.Outstanding) > 0 {
			left += fmt.Sprintf("%d available and %d delivered messages of %s; ", c.Available, len(c.Outstanding), c.Name)
		}
	}
	return left
}

// finish lets every lease end, records the survivors' Stats, stops the survivors and copies the server's records.
func (w *world) finish(survivors []*worker) {
	time.Sleep(time.Minute)
	for _, x := range survivors {
		w.rec.finalStats = append(w.rec.finalStats, subscriberStats{x.name, x.sub.Stats()})
	}
	for _, x := range survivors {
		x.stop(closed, time.Minute)
	}
	if !w.s.Sinks {
		w.readPages()
	}
	w.rec.requests = w.srv.Requests()
	w.rec.final, _ = w.srv.Stream(streamName)
	if w.s.Sinks {
		w.rec.commits, w.rec.final.Messages = w.source.all()
	}
	if kept, all := len(w.rec.requests), w.srv.Count(sequintest.Any); kept != all {
		w.rec.violate("the journal keeps all requests", "it holds %d of %d requests", kept, all)
	}
	w.rec.complete = true
}

// readPages requires that AllMessages returns the whole stream, page by page, where the server has pages. Faults that do not end, such
// as a proxy that cuts every long answer, may end it with an error that can pass, but not with fewer messages and no error.
func (w *world) readPages() {
	stream, _ := w.srv.Stream(streamName)
	var want, got []int64
	for _, m := range stream.Messages {
		want = append(want, m.Seq)
	}
	for m, err := range w.newClient(director, time.Minute).AllMessages(context.Background(), streamName, sequin.ListOptions{Limit: 7}) {
		if err != nil {
			unsupported := !w.s.has(paging) && errors.Is(err, sequin.ErrUnsupported)
			if !unsupported && !sequin.IsTransient(err) {
				w.rec.violate("AllMessages returns the whole stream", "it returned %v", err)
			}
			return
		}
		got = append(got, m.Seq)
	}
	slices.Sort(want)
	if !slices.Equal(want, got) {
		w.rec.violate("AllMessages returns the whole stream", "it returned %v of %v", got, want)
	}
}
