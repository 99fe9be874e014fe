package overview

import "time"

// meter computes the rate of a count.
type meter struct {
	at      time.Time
	count   float64
	history []float64 // copied at each change, because answers have it
}

// counter returns the rate of a counter, which never falls, but starts from 0 when the server does.
func (w *Watcher) counter(name string, count float64, at time.Time) Rate {
	return w.meter(name, count, at, func(before float64) float64 {
		if count < before {
			return count
		}
		return count - before
	})
}

// growth returns the rate at which a number grows. It is 0 while the number falls.
func (w *Watcher) growth(name string, count float64, at time.Time) Rate {
	return w.meter(name, count, at, func(before float64) float64 { return max(0, count-before) })
}

// meter adds a count. One that is nearer to the last than MinInterval is left out: the answers about all streams and those about
// one have the same counters.
func (w *Watcher) meter(name string, count float64, at time.Time, grown func(before float64) float64) Rate {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.rates[name]
	switch {
	case m == nil:
		w.rates[name] = &meter{at: at, count: count}
		return Rate{}
	case at.Sub(m.at) >= w.cfg.MinInterval:
		from := max(0, len(m.history)+1-w.cfg.History)
		history := make([]float64, 0, len(m.history)+1-from)
		history = append(history, m.history[from:]...)
		m.history = append(history, grown(m.count)/at.Sub(m.at).Seconds())
		m.at, m.count = at, count
	}
	return m.rate()
}

func (m *meter) rate() Rate {
	if len(m.history) == 0 {
		return Rate{}
	}
	return Rate{Known: true, Now: m.history[len(m.history)-1], History: m.history}
}
