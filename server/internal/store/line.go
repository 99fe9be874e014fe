package store

import (
	"slices"
	"time"
)

// line is where receives wait, first come first served. One place at a time is called; when it has received, and there
// is more, or when it leaves without, the next one is called. So a change wakes exactly as many as it has work for.
type line struct {
	stream     *stream
	hasWork    func(now time.Time) bool
	nextExpiry func() (time.Time, bool)

	places []*place
	called *place
	timer  *time.Timer // runs while somebody waits and a lease is out
	at     time.Time   // when the timer fires
}

// update calls the first in line when there is work, and sees that the end of a lease will be noticed.
func (l *line) update() {
	if len(l.places) == 0 {
		l.stop()
		return
	}
	if l.called == nil && l.hasWork(time.Now()) {
		l.called = l.places[0]
		l.called.ready <- struct{}{} // has room: it is empty unless the place is called
	}
	l.arm()
}

// arm sets the timer for the lease that ends next. A timer that fires too early, because that lease was settled, is
// left alone: it sets itself again.
func (l *line) arm() {
	next, ok := l.nextExpiry()
	if !ok || l.timer != nil && !next.Before(l.at) {
		return
	}
	l.stop()
	l.at = next
	l.timer = time.AfterFunc(time.Until(next), l.fired)
}

func (l *line) fired() {
	l.stream.mu.Lock()
	defer l.stream.mu.Unlock()
	l.stop()
	l.update()
}

func (l *line) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// close wakes everyone; whoever is called already finds out by the same Receive.
func (l *line) close() {
	l.stop()
	for _, p := range l.places {
		if p != l.called {
			p.ready <- struct{}{}
		}
	}
	l.places, l.called = nil, nil
}

func (l *line) leave(p *place) {
	i := slices.Index(l.places, p)
	if i < 0 {
		return
	}
	l.places = slices.Delete(l.places, i, i+1)
	if l.called == p {
		l.called = nil
	}
	l.update()
}

// place is a Place in memory.
type place struct {
	line    *line
	receive func(n int, dst []Delivery) ([]Delivery, error) // wants the stream's lock held
	ready   chan struct{}
}

func (p *place) Ready() <-chan struct{} { return p.ready }

// Receive gives up the place when it got something. Otherwise somebody who did not stand in line was quicker, and the
// place stays where it is, at the head.
func (p *place) Receive(n int, dst []Delivery) ([]Delivery, error) {
	l := p.line
	l.stream.mu.Lock()
	defer l.stream.mu.Unlock()
	before := len(dst)
	dst, err := p.receive(n, dst)
	if err != nil {
		return dst, err
	}
	if len(dst) > before {
		l.leave(p)
		return dst, nil
	}
	if l.called == p {
		l.called = nil
		l.update()
	}
	return dst, nil
}

func (p *place) Leave() {
	p.line.stream.mu.Lock()
	defer p.line.stream.mu.Unlock()
	p.line.leave(p)
}
