package backlog

// Measure is what a backlog has of the messages that were read.
type Measure struct {
	Unsettled   int // living messages, those on lease included
	Outstanding int // heads on lease, those among them that were replaced
	Delayed     int
	Oldest      int64 // the lowest seq of a living message that is not settled, or 0 for none
	Partial     bool  // keys have left messages out, which are not counted
}

// Measure counts. It takes time for the leases and the delays, and not for what waits.
func (b *Backlog) Measure() Measure {
	m := Measure{Unsettled: len(b.bySeq) + b.met, Partial: b.left > 0}
	see := func(seq int64) {
		if m.Oldest == 0 || seq < m.Oldest {
			m.Oldest = seq
		}
	}
	for _, it := range b.out {
		if it.delayed {
			m.Delayed++
		} else {
			m.Outstanding++
		}
		if b.stream.Alive(it.seq) {
			see(it.seq)
			continue
		}
		m.Unsettled--
		for _, seq := range it.later {
			if b.stream.Alive(seq) {
				see(seq)
			} else {
				m.Unsettled--
			}
		}
	}
	if len(b.ready) > 0 {
		see(b.ready[0].seq)
	}
	return m
}
