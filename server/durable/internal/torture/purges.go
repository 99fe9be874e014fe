package torture

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"

	"github.com/sequin-go/sequin/server/internal/store"
)

// A stream of each kind has one worker, which sends and purges in turn. Each step is repeated until it is done, so that the
// steps follow one another, and the stream holds what some number of them leaves.
var purgedStreams = []store.StreamOptions{{Name: "purged log"}, {Name: "purged keys", OneMessagePerKey: true}}

// Of purgeEvery steps the last is a purge: of a key, or of all messages.
const purgeEvery = 4

func purgeOf(step int) (q store.PurgeQuery, purges bool) {
	if step%purgeEvery != purgeEvery-1 {
		return q, false
	}
	if n := step / purgeEvery; n%8 != 7 {
		q.Pattern = Message{0, step - 2, n % maxBatch}.key()
	}
	return q, true
}

// purge makes one step after the other.
func (w *Workload) purge(ctx context.Context, s store.Stream, stream string, random *rand.Rand) {
	n := w.plan.Purges[stream]
	for step := 0; w.more(ctx, step); step++ {
		e := Event{Op: Purge, Phase: Asked, Stream: stream, Send: n}
		w.add(e)
		var err error
		if q, purges := purgeOf(n); purges {
			_, err = s.(store.ExtendedStream).Purge(context.Background(), q)
		} else {
			_, err = s.Send(context.Background(), once(stream, 0, n), batch(0, n))
		}
		w.finish(e, err)
		if err == nil {
			n++
		} else {
			pause(random)
		}
		w.think(random)
	}
}

func (a *Accounts) applyPurge(e Event, at int) {
	for len(a.purges[e.Stream]) <= e.Send {
		a.purges[e.Stream] = append(a.purges[e.Stream], &operation{})
	}
	a.purges[e.Stream][e.Send].apply(e, at)
}

// checkPurged holds that a stream has what a number of steps leaves: all that must be there, and none that was never asked for.
func (c *check) checkPurged(ctx context.Context, o store.StreamOptions) error {
	s, err := c.st.Stream(ctx, o.Name)
	if err != nil {
		return err
	}
	all, err := s.List(ctx, store.ListQuery{Limit: 10_000})
	if err != nil {
		return err
	}
	found := map[Message]bool{}
	for _, m := range all {
		name, ok := parse(m)
		if !ok || found[name] {
			c.a.fault("%s: seq %d is not what was sent, or is there twice: %s=%.100q", o.Name, m.Seq, m.Key, m.Data)
		}
		found[name] = true
	}
	steps := c.a.purges[o.Name]
	want, fits := map[Message]bool{}, len(found) == 0
	for n, step := range steps {
		if c.must(step) {
			fits = false // the steps before do not suffice
		}
		if step.impossible() {
			break
		}
		applyStep(want, n, o.OneMessagePerKey)
		fits = fits || maps.Equal(want, found)
	}
	if !fits {
		c.a.fault("%s: no number of the steps from the last that was answered on leaves what is there: %v", o.Name, fmt.Sprint(found))
	}
	return nil
}

// applyStep makes a step on what a stream has.
func applyStep(has map[Message]bool, n int, replaces bool) {
	q, purges := purgeOf(n)
	if !purges {
		for i := range batchSize(n) {
			m := Message{0, n, i}
			maps.DeleteFunc(has, func(old Message, _ bool) bool { return replaces && old.key() == m.key() })
			has[m] = true
		}
		return
	}
	maps.DeleteFunc(has, func(m Message, _ bool) bool { return q.Pattern == "" || m.key() == q.Pattern })
}
