package batch

// epoch counts the live items that were admitted between two flushes.
type epoch struct {
	live int
	done chan struct{} // closed when this epoch and all before it have no live item
}

// epochs are the epochs with live items, oldest first, and the one that new items join.
type epochs []*epoch

func newEpochs() epochs { return epochs{{done: make(chan struct{})}} }

func (es epochs) current() *epoch { return es[len(es)-1] }

// end begins a new epoch, and returns a channel that is closed when every item admitted so far has its final result. It does
// not end an epoch without items, so that repeated calls of Flush during an outage do not add epochs.
func (es *epochs) end() (done <-chan struct{}) {
	list := *es
	last := len(list) - 1
	if list[last].live == 0 && last > 0 {
		return list[last-1].done
	}
	done = list[last].done
	*es = append(list, &epoch{done: make(chan struct{})})
	es.turn()
	return done
}

// turn closes and removes the oldest epochs, as long as they have no live item.
func (es *epochs) turn() {
	list := *es
	for len(list) > 1 && list[0].live == 0 {
		close(list[0].done)
		list[0] = nil
		list = list[1:]
	}
	*es = list
}
