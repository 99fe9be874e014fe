package batch

import (
	"slices"
	"time"
)

// maxRunningCandidates is how many candidates of an engine run at once; the others wait. It is twice the least number of a
// Publisher's lanes, so that candidates do not take much more of the server than other batches do.
const maxRunningCandidates = 8

// candidates are the batches of a lane that run beside it, in the order of their items. See Result.Aside.
type candidates[T, W any] struct {
	list []*Batch[T, W]
	ids  IDSet // of all items in list
}

// avoid returns the IDs that no other batch of the lane may hold, or nil.
func (c *candidates[T, W]) avoid() *IDSet {
	if len(c.list) == 0 {
		return nil
	}
	return &c.ids
}

// add adds batches behind the others. They run after resume.
func (c *candidates[T, W]) add(batches []*Batch[T, W], resume time.Time) {
	c.insert(len(c.list), batches, resume)
}

// replace replaces b by others, which hold the rest of its items.
func (c *candidates[T, W]) replace(b *Batch[T, W], others []*Batch[T, W], resume time.Time) {
	i := slices.Index(c.list, b)
	c.list = slices.Delete(c.list, i, i+1)
	c.insert(i, others, resume)
}

func (c *candidates[T, W]) insert(i int, batches []*Batch[T, W], resume time.Time) {
	for _, b := range batches {
		b.Candidate, b.running, b.resume = true, false, resume
	}
	c.list = slices.Insert(c.list, i, batches...)
	c.refresh()
}

// refresh computes what depends on the list: the IDs in it, and which batches wait behind another one.
func (c *candidates[T, W]) refresh() {
	n := 0
	for _, b := range c.list {
		n += len(b.Items)
	}
	c.ids.Reset(n)
	for _, b := range c.list {
		b.behind = b.holdsAny(&c.ids)
		for i := range b.Items {
			if id := b.Items[i].ID; id != 0 {
				c.ids.Add(id)
			}
		}
	}
}

// holdsAny reports whether b has an item with one of the IDs.
func (b *Batch[T, W]) holdsAny(ids *IDSet) bool {
	return slices.ContainsFunc(b.Items, func(e Entry[T]) bool { return e.ID != 0 && ids.Has(e.ID) })
}

// makeCandidates turns batches that have just run in the lane into candidates. The lane's retries that hold one of their IDs
// become candidates behind them, because these retries hold later items. Retries that share an ID with one of these become
// candidates too, because those before it hold earlier items and must run first. With Config.InOrder all retries wait for
// the candidates instead.
func (l *lane[T, W]) makeCandidates(batches []*Batch[T, W], resume time.Time, inOrder bool) {
	l.candidates.add(batches, resume)
	if inOrder {
		return
	}
	var following []*Batch[T, W]
	for found := true; found; {
		found = false
		for _, b := range l.retries {
			if !slices.Contains(following, b) && (b.holdsAny(&l.candidates.ids) || slices.ContainsFunc(following, b.sharesID)) {
				following, found = append(following, b), true
			}
		}
	}
	follows := func(b *Batch[T, W]) bool { return slices.Contains(following, b) }
	ordered := slices.DeleteFunc(slices.Clone(l.retries), func(b *Batch[T, W]) bool { return !follows(b) })
	l.retries = slices.DeleteFunc(l.retries, follows)
	l.candidates.add(ordered, resume)
}

// sharesID reports whether b and other have an item with the same ID.
func (b *Batch[T, W]) sharesID(other *Batch[T, W]) bool {
	var ids IDSet
	ids.Reset(len(other.Items))
	for i := range other.Items {
		if id := other.Items[i].ID; id != 0 {
			ids.Add(id)
		}
	}
	return b.holdsAny(&ids)
}

// dispatchCandidates appends the candidates that are due to leaving, the earliest first, as many as may run. It returns the
// time at which to look again: wake, or earlier.
func (s *state[T, W]) dispatchCandidates(leaving []*Batch[T, W], now, wake time.Time) ([]*Batch[T, W], time.Time) {
	for s.running < maxRunningCandidates {
		var next *Batch[T, W]
		for i := range s.lanes {
			for _, b := range s.lanes[i].candidates.list {
				if !b.running && !b.behind && (next == nil || b.resume.Before(next.resume)) {
					next = b
				}
				if s.cfg.InOrder {
					break
				}
			}
		}
		if next == nil {
			break
		}
		if now.Before(next.resume) {
			return leaving, sooner(wake, next.resume)
		}
		next.running = true
		s.running++
		leaving = append(leaving, next)
	}
	return leaving, wake
}

// hasCandidates reports whether any lane has a candidate.
func (s *state[T, W]) hasCandidates() bool {
	for i := range s.lanes {
		if len(s.lanes[i].candidates.list) > 0 {
			return true
		}
	}
	return false
}
