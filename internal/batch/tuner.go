package batch

import "time"

// tuner decides how many lanes an engine has, where that number adapts. It tries twice as many while the lanes limit the rate,
// and keeps them if they carry more. Once a minute it tries half as many, and keeps these if they carry about as much. It
// halves the number while batches are far from full.
type tuner struct {
	least, most int
	want        int // the number of lanes

	// The latest batches that ended while the lanes were the limit, or in a trial.
	since       time.Time // the end of the batch before the first of them; zero before that
	ends, items int

	from     int       // the number of lanes before a trial; 0 while there is none
	before   float64   // items a second before the trial
	early    int       // ends in the trial before it counts
	measured int       // rates in the trial that were too low
	notMore  time.Time // no more lanes are tried before then
	notFewer time.Time // no fewer ones

	// The latest batches that were cut.
	cutSince time.Time
	cuts     int
	fill     float64
}

const (
	// minTook is how long each of the latest requests must have taken before more lanes are tried. On loopback a full request takes
	// 1 to 3 ms, and the processor is the limit. If it is busy with other work some take longer, but not all.
	minTook = 10 * time.Millisecond
	// minGain is how many times as much twice the lanes must carry. Twice would be ideal; the rates of two equal trials differ by less
	// than a tenth.
	minGain = 1.2
	// retrial is the time from a trial that has failed to the next, and from a change to a trial of fewer lanes. A trial takes about ten
	// requests of each lane, and one of fewer lanes about five, at half the rate.
	retrial = time.Minute
	// rounds is how many requests of each lane, on average, a rate is measured over.
	rounds = 2
	// maxEarly limits how many requests of each lane, on average, a trial waits for the first one of every new lane. A new lane
	// opens a connection first, which takes three round trips with TLS.
	maxEarly = 8
	// maxMeasured is how many rates a trial measures until one is high enough. The first may be low while the buffer, which has just
	// grown, fills.
	maxMeasured = 3
	// minFill is how full batches are, on average, below which the number of lanes is halved. They then have room for half as
	// much again.
	minFill = 1.0 / 3
	// fillTime is the least time over which the average is taken.
	fillTime = time.Second
)

// ending is what the tuner has to know about the end of a batch.
type ending struct {
	at      time.Time
	items   int  // that got their final result
	failed  bool // a batch of any lane waits to run again
	idle    bool // nothing is left to run
	heard   bool // every lane is open, and has run a batch since then
	limited bool // the lanes are the limit: they are busy, with full batches that take long, and have more of them
}

func newTuner(least, most int) tuner { return tuner{least: least, most: most, want: least} }

// adapts reports whether the number of lanes may change.
func (t *tuner) adapts() bool { return t.least < t.most }

// ended records the end of a batch. mayGrow is asked before a trial.
func (t *tuner) ended(e ending, mayGrow func(lanes int) bool) {
	if t.from > 0 {
		t.judge(e)
		return
	}
	if !e.limited || e.failed || t.ends >= 2*rounds*t.want {
		t.since = time.Time{} // measure anew
	}
	if !e.limited || e.failed {
		return
	}
	t.count(e)
	if t.ends < rounds*t.want {
		return
	}
	switch more := 2 * t.want; {
	case t.want > t.least && !e.at.Before(t.notFewer):
		t.try(t.want/2, e.at)
	case more <= t.most && !e.at.Before(t.notMore) && mayGrow(more):
		t.try(more, e.at)
	}
}

// try begins a trial.
func (t *tuner) try(lanes int, now time.Time) {
	t.from, t.before, t.early, t.measured = t.want, t.rate(now), 0, 0
	t.set(lanes)
}

// judge decides whether the lanes of the trial stay.
func (t *tuner) judge(e ending) {
	switch {
	case e.failed:
		t.giveUp(e.at.Add(retrial))
	case e.idle:
		t.giveUp(time.Time{}) // there was too little to send
	case !e.heard && t.early < maxEarly*t.want:
		t.early++
	default:
		if t.count(e); t.ends < rounds*t.want {
			return
		}
		fewer := t.want < t.from
		switch rate := t.rate(e.at); {
		case fewer && minGain*rate >= t.before:
			t.from, t.notMore, t.notFewer = 0, e.at.Add(retrial), e.at.Add(retrial)
			return
		case !fewer && rate >= minGain*t.before:
			t.from, t.notFewer = 0, e.at.Add(retrial) // the rate is what the next trial is compared with
			return
		}
		t.since = time.Time{}
		if t.measured++; fewer || t.measured == maxMeasured {
			t.giveUp(e.at.Add(retrial))
		}
	}
}

// giveUp ends a trial with as many lanes as before. The next one does not begin before next.
func (t *tuner) giveUp(next time.Time) {
	from := t.from
	if t.want < from {
		t.notFewer = next
	} else {
		t.notMore = next
	}
	t.from = 0
	t.set(from)
}

func (t *tuner) set(lanes int) {
	t.want, t.since, t.cuts = lanes, time.Time{}, 0
}

// count adds a batch to those that the rate is measured over. The first one only begins them.
func (t *tuner) count(e ending) {
	if t.since.IsZero() {
		t.since, t.ends, t.items = e.at, 0, 0
		return
	}
	t.ends++
	t.items += e.items
}

func (t *tuner) rate(now time.Time) float64 {
	return float64(t.items) / max(now.Sub(t.since), 1).Seconds()
}

// cut records that a batch was cut. fill is how full it is, at most 1.
func (t *tuner) cut(now time.Time, fill float64) {
	if t.want == t.least || t.from > 0 {
		return
	}
	if t.cuts == 0 {
		t.cutSince, t.fill = now, 0
	}
	t.cuts++
	t.fill += fill
	if t.cuts < rounds*t.want || now.Sub(t.cutSince) < fillTime {
		return
	}
	if t.fill < minFill*float64(t.cuts) {
		t.set(t.want / 2)
	}
	t.cuts = 0
}
