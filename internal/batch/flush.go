package batch

import "time"

// epoch counts the live items that were admitted after the epoch before. A Flush ends an epoch, and so does time, so that the
// oldest epoch tells how long the oldest item has been waiting.
type epoch struct {
	live  int
	began time.Time     // when its first item was admitted
	over  chan struct{} // see done; nil while nobody waits
}

// done returns a channel that is closed when this epoch and all before it have no live item.
func (e *epoch) done() <-chan struct{} {
	if e.over == nil {
		e.over = make(chan struct{})
	}
	return e.over
}

// epochs are the epochs with live items, oldest first, and the one that new items join.
type epochs []*epoch

func newEpochs() epochs { return epochs{new(epoch)} }

func (es epochs) current() *epoch { return es[len(es)-1] }

// end begins a new epoch, and returns a channel that is closed when every item admitted so far has its final result. It does
// not end an epoch without items, so that repeated calls of Flush during an outage do not add epochs.
func (es *epochs) end() (done <-chan struct{}) {
	list := *es
	last := len(list) - 1
	if list[last].live == 0 && last > 0 {
		return list[last-1].done()
	}
	done = list[last].done()
	*es = append(list, new(epoch))
	es.turn()
	return done
}

// minEpoch is the least length of an epoch that time ends, and epochsPerAge how many there are, of equal length, in the age of the
// oldest. The list stays short while nothing is sent: after a day it has about 100 epochs.
const (
	minEpoch     = 100 * time.Millisecond
	epochsPerAge = 8
)

// split begins a new epoch if the present one is long enough. Later items are then told from those that it has.
func (es *epochs) split(now time.Time) {
	e := es.current()
	if e.live > 0 && now.Sub(e.began) >= max(minEpoch, now.Sub(es.oldest())/epochsPerAge) {
		*es = append(*es, new(epoch))
	}
}

// oldest returns when the oldest live item was admitted, or up to an epoch's length before. It is zero if there is none.
func (es epochs) oldest() time.Time {
	for _, e := range es {
		if e.live > 0 {
			return e.began
		}
	}
	return time.Time{}
}

// turn closes and removes the oldest epochs, as long as they have no live item.
func (es *epochs) turn() {
	list := *es
	for len(list) > 1 && list[0].live == 0 {
		if list[0].over != nil {
			close(list[0].over)
		}
		list[0] = nil
		list = list[1:]
	}
	*es = list
}
