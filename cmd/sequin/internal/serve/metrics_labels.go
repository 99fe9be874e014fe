package serve

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

// labels decides which streams, or consumers, have labels of their own for their counters: the first maxStreamLabels, until they
// are deleted. All others share one. A counter must not fall, and so one keeps its label while others become larger, and what it counted before it
// had a label stays with the others.
type labels struct {
	own  map[string]counts // of those with labels, by id: what was counted before they had them
	rest map[string]counts // of the others, by id
	gone counts            // what the others counted that are deleted now or have labels of their own
}

func newLabels() labels {
	return labels{own: map[string]counts{}, rest: map[string]counts{}}
}

// one returns the counters of one, as its own label has them or would have them.
func (l *labels) one(c labelled) labelled {
	c.counts.add(l.own[c.id], -1)
	return c
}

// collect returns those with labels of their own, and the sum of the others, without an id, if there are or were any. all are those that exist; the
// first of them get labels first. If whole is false, all may lack some that exist.
func (l *labels) collect(all []labelled, whole bool) []labelled {
	if whole {
		l.drop(all)
	}
	out := make([]labelled, 0, min(len(all), maxStreamLabels+1))
	for _, c := range all {
		if _, ok := l.own[c.id]; !ok && (len(l.own) >= maxStreamLabels || c.names[0] == otherStreams) {
			l.rest[c.id] = c.counts
			continue
		} else if !ok {
			before := l.rest[c.id]
			delete(l.rest, c.id)
			l.gone.add(before, 1)
			l.own[c.id] = before
		}
		out = append(out, l.one(c))
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
