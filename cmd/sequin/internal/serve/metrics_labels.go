package serve

import (
	"cmp"
	"slices"
	"time"
)

// counts are the values of the four counters of a stream, or of a consumer.
type counts [4]int64

func (c *counts) add(o counts, sign int64) {
	for i := range c {
		c[i] += sign * o[i]
	}
}

// labelled is a stream or a consumer: its id, its names, which are the values of its labels, and its counters.
type labelled struct {
	id    string
	names []string
	counts
}

func (c counts) sum() (n int64) {
	for _, v := range c {
		n += v
	}
	return n
}

// labels decides which streams, or consumers, have labels of their own for their counters: maxStreamLabels of them. All others share
// one. The first have them, until they are deleted, or are idle while others are not. A counter must not fall: what one has counted
// before it had a label stays with the others, and what it counts without a label does too.
type labels struct {
	own  map[string]*ownLabel
	rest map[string]counts // of the others, by id
	gone counts            // what the others counted that are deleted now or have labels of their own, without what they counted with one
}

// ownLabel is what is known of one with a label of its own.
type ownLabel struct {
	before, last counts    // before it had the label, and at the latest question
	changed      time.Time // when it last counted something
}

// idleLabel is how long one with a label has to be idle before another one may get it. Prometheus takes a series that is not there
// for alive for as long.
const idleLabel = 5 * time.Minute

func newLabels() labels {
	return labels{own: map[string]*ownLabel{}, rest: map[string]counts{}}
}

// one returns the counters of one, as its own label has them or would have them.
func (l *labels) one(c labelled) labelled {
	if o := l.own[c.id]; o != nil {
		c.counts.add(o.before, -1)
	}
	return c
}

// collect returns those with labels of their own, and the sum of the others, without an id, if there are or were any. all are those that exist; the
// first of them get labels first. If whole is false, all may lack some that exist.
func (l *labels) collect(all []labelled, whole bool) []labelled {
	if whole {
		l.drop(all)
	}
	l.assign(all)
	out := make([]labelled, 0, min(len(all), maxStreamLabels+1))
	for _, c := range all {
		if l.own[c.id] != nil {
			out = append(out, l.one(c))
		}
	}
	if len(l.rest) == 0 && l.gone == (counts{}) || len(all) == 0 {
		return out
	}
	other := labelled{names: make([]string, len(all[0].names)), counts: l.gone}
	for i := range other.names {
		other.names[i] = otherStreams
	}
	for _, c := range l.rest {
		other.counts.add(c, 1)
	}
	return append(out, other)
}

// waiting is one without a label that has counted something since the latest question.
type waiting struct {
	labelled
	before counts // at that question
	more   int64
}

// assign gives labels to those that can have one.
func (l *labels) assign(all []labelled) {
	now := time.Now()
	var busy []waiting
	for _, c := range all {
		if o := l.own[c.id]; o != nil {
			if o.last != c.counts {
				o.last, o.changed = c.counts, now
			}
			continue
		}
		before, known := l.rest[c.id]
		switch {
		case c.names[0] == otherStreams:
		case len(l.own) < maxStreamLabels:
			l.promote(c, before, now)
			continue
		case known && before != c.counts:
			busy = append(busy, waiting{c, before, c.sum() - before.sum()})
		}
		l.rest[c.id] = c.counts
	}
	if len(busy) == 0 {
		return
	}
	idle := l.idle(now)
	slices.SortStableFunc(busy, func(a, b waiting) int { return cmp.Compare(b.more, a.more) })
	for i, c := range busy[:min(len(busy), len(idle))] {
		l.demote(idle[i])
		l.promote(c.labelled, c.before, now)
	}
}

// idle returns the ids of those with labels that have counted nothing for idleLabel.
func (l *labels) idle(now time.Time) (ids []string) {
	for id, o := range l.own {
		if now.Sub(o.changed) >= idleLabel {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(l.own[a].changed.Compare(l.own[b].changed), cmp.Compare(a, b)) })
	return ids
}

// promote gives a label to one that had counted before at the latest question.
func (l *labels) promote(c labelled, before counts, now time.Time) {
	delete(l.rest, c.id)
	l.gone.add(before, 1)
	l.own[c.id] = &ownLabel{before, c.counts, now}
}

// demote takes the label from one. The sum of the others stays what it is.
func (l *labels) demote(id string) {
	o := l.own[id]
	delete(l.own, id)
	l.gone.add(o.last, -1)
	l.rest[id] = o.last
}

// drop forgets those that do not exist any more.
func (l *labels) drop(all []labelled) {
	exists := make(map[string]bool, len(all))
	for _, c := range all {
		exists[c.id] = true
	}
	for id := range l.own {
		if !exists[id] {
			delete(l.own, id)
		}
	}
	for id, c := range l.rest {
		if !exists[id] {
			l.gone.add(c, 1)
			delete(l.rest, id)
		}
	}
}
