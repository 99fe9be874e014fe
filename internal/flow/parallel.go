package flow

import "time"

// Parallel is how many receives may run at once. They share the way from the server. On a slow one each may be in time alone,
// and none together. On a long one, more at once bring more messages.
//
// The number is first at the beginning. It grows beyond first, up to most, while every answer is full, the program waits for
// messages, the receives take long, and there is room for one more. It then doubles, on trial: it falls back unless the
// messages come clearly faster. It is first again after an answer that is not full, and rises to what has helped before with
// each answer that is full.
type Parallel struct {
	size, first, most int
	known             int // quick answers raise the size up to it
	lap               lap
	trial             trial
	tryAt             time.Time // no trial begins before
}

// lap is the time in which all receives that ran at its beginning are answered, and one that started later.
type lap struct {
	number   int
	began    time.Time
	old, new int   // the receives that run, and started before the lap or in it
	window   Round // at its beginning
	mixed    bool  // the size has changed, or an answer was not full
	starved  bool  // the program was waiting when an answer arrived
	limited  bool  // another receive would have run
	messages int
	quickest time.Duration // of its receives
}

// trial is a size that may be of no use.
type trial struct {
	from int     // the size before; 0 if there is no trial
	rate float64 // messages a second before
	laps int     // that did not show a difference
}

const (
	// far is how long the quickest receive must take for more at once to be tried. Within it, two that are full bring 200,000
	// messages a second, which is about what a program reads and acks.
	far = 10 * time.Millisecond
	// helps is the ratio of the rates with which twice as many receives are kept. Rates of single laps differ by less.
	helps = 1.2
	// trialLaps is how many laps may fail to show a difference. The first receives on new connections take several round trips.
	trialLaps = 3
	// uselessFor is how long a size that did not help is not tried again. A trial takes four laps, less than a second.
	uselessFor = 10 * time.Second
)

// NewParallel returns a Parallel of first receives, which may become most.
func NewParallel(first, most int) Parallel {
	return Parallel{size: first, first: first, most: most, known: first, lap: lap{mixed: true}}
}

// Size returns how many receives may run at once.
func (p *Parallel) Size() int { return p.size }

// Start records that a receive starts. End gets the lap that it returns.
func (p *Parallel) Start() (lap int) {
	p.lap.new++
	return p.lap.number
}

// End records that a receive of that lap has ended.
func (p *Parallel) End(lap int) {
	if lap < p.lap.number {
		p.lap.old--
	} else {
		p.lap.new--
	}
}

// Limits records that the size keeps another receive from starting. room reports whether there is room for one; it is called
// only if that matters.
func (p *Parallel) Limits(room func() bool) {
	if p.first < p.most && !p.lap.limited {
		p.lap.limited = room()
	}
}

// TooSlow records that an answer timed out, or came too late for its lease, while other receives ran as well. With none, less
// at once would not help.
func (p *Parallel) TooSlow(now time.Time, others int) {
	if others == 0 {
		return
	}
	p.resize(max(1, p.size/2))
	p.known, p.trial, p.tryAt = max(p.first, p.size), trial{}, now.Add(tooLargeFor)
}

// NotFull records an answer with fewer messages than the receive asked for, or a failure: more receives would bring nothing.
func (p *Parallel) NotFull() {
	p.resize(min(p.size, p.first))
	p.trial = trial{}
	p.lap.mixed = true
}

// Arrival describes an answer that came in time.
type Arrival struct {
	Lap         int // that Start returned
	Messages    int
	Full        bool          // as many as the receive asked for
	Starved     bool          // the program was waiting for messages
	Took, Lease time.Duration // the receive took a part of its lease, without its wait for messages
	Window      Round         // of the Window
}

// Arrived records an answer, after End. The size grows by one after a quick answer, up to a size that is known to be of use.
func (p *Parallel) Arrived(now time.Time, a Arrival) {
	useful := p.first
	if a.Full {
		useful = p.known
	}
	if p.size < useful && a.Took < a.Lease/4 {
		p.resize(p.size + 1)
	}
	l := &p.lap
	if l.messages == 0 || a.Took < l.quickest {
		l.quickest = a.Took
	}
	l.messages += a.Messages
	l.starved = l.starved || a.Starved
	if l.old > 0 || a.Lap < l.number || p.first == p.most {
		return
	}
	if took := now.Sub(l.began); !l.mixed && l.window == a.Window && took > 0 {
		p.judge(now, float64(l.messages)/took.Seconds())
	} else {
		l.mixed = false
	}
	p.lap = lap{number: l.number + 1, began: now, old: l.new, window: a.Window, mixed: l.mixed}
}

// judge decides after a lap in which messages arrived at the given rate.
func (p *Parallel) judge(now time.Time, rate float64) {
	l := &p.lap
	if p.trial.from > 0 {
		if l.limited && rate < helps*p.trial.rate {
			if p.trial.laps++; p.trial.laps == trialLaps {
				p.resize(p.trial.from)
				p.trial, p.tryAt = trial{}, now.Add(uselessFor)
			}
			return
		}
		p.known, p.trial = p.size, trial{} // it helps; or there is no room for so many, so that it does no harm
	}
	if l.limited && l.starved && l.quickest >= far && p.size >= p.known && p.size < p.most && !now.Before(p.tryAt) {
		p.trial = trial{from: p.size, rate: rate}
		p.resize(min(2*p.size, p.most))
	}
}

// resize sets the size. The lap that runs, or that begins now, is not judged.
func (p *Parallel) resize(size int) {
	p.lap.mixed = p.lap.mixed || size != p.size
	p.size = size
}
