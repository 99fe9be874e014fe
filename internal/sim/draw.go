package sim

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// draw returns the schedule of a seed. The same seed always gives the same schedule.
func draw(seed uint64) schedule {
	d := newDrawer(seed, 0)
	s := schedule{Seed: seed}
	switch d.IntN(3) {
	case 1:
		s.Mode = server.Aug2024
	case 2:
		s.Sinks = true
	default:
		s.Stream = sequin.StreamOptions{OneMessagePerKey: d.chance(50), ProcessUnmodified: d.chance(20)}
		if d.chance(10) {
			s.Stream.RetainUpTo = d.between(5, 100)
		}
		for _, extension := range []string{fencedAcks, parts, nackDelay, extend, attempts, paging} {
			if d.chance(40) {
				s.Without = append(s.Without, extension)
			}
		}
	}
	for range d.between(1, 3) {
		s.Consumers = append(s.Consumers, d.consumer(s.Mode))
	}
	for range d.between(1, 3) {
		s.Publishers = append(s.Publishers, d.publisher())
	}
	for range d.between(1, 6) {
		s.Workers = append(s.Workers, d.worker(s.Consumers))
	}
	for range d.IntN(8) {
		s.Faults = append(s.Faults, d.fault())
	}
	s.Faults = append(s.Faults, d.lasting()...)
	if s.Sinks {
		d.sinks(&s)
	} else {
		newDrawer(seed, additions).addTo(&s)
	}
	return s
}

// additions is the stream of random values of what was added later, so that a seed draws the rest as before.
const additions = 1 << 32

// addTo draws headers, purges and a long way.
func (d drawer) addTo(s *schedule) {
	for _, extension := range []string{headers, purging} {
		if s.Mode == server.Documented && d.chance(20) {
			s.Without = append(s.Without, extension)
		}
	}
	often := pick(d, 0, 30, 30, 100) // a run without headers takes the ways that it took before
	for _, p := range s.Publishers {
		for i := range p.Steps {
			p.Steps[i].Headers = d.chance(often)
		}
	}
	if d.chance(30) {
		for range d.between(1, 3) {
			s.Purges = append(s.Purges, purgePlan{At: d.upTo(horizon), Share: pick(d, 30, 70, 100), Pattern: pick(d, "", "", "a.>", "*.0")})
		}
	}
	if d.chance(30) {
		d.longWay(s)
	}
}

// longWay makes sends slow, and gives much to send to the Publishers that find the number of their lanes.
func (d drawer) longWay(s *schedule) {
	s.Faults = append(s.Faults, faultPlan{For: wholeRun, Kind: slowAnswer, Op: sequintest.Send, Share: 100, Delay: 20 * time.Millisecond})
	for i := range s.Publishers {
		p := &s.Publishers[i]
		if p.Config.Lanes != 0 {
			continue
		}
		p.Config.MaxBatch, p.Config.MaxBuffered = 1, max(p.Config.MaxBuffered, 20)
		for j := range p.Steps {
			p.Steps[j].N *= pick(d, 1, 4)
		}
	}
}

// sinks draws what sinks have, and streams have not. A sink delivers every change of its table, without a limit of deliveries.
func (d drawer) sinks(s *schedule) {
	for i := range s.Consumers {
		c := &s.Consumers[i]
		c.Filter, c.MaxDeliver, c.StartUp = ">", 0, pick(d, 0, time.Second, 6*time.Second)
	}
	for i := range s.Workers {
		w := &s.Workers[i]
		w.SaidWait = s.Consumers[w.Consumer].AckWait
		if d.chance(15) {
			w.SaidWait -= d.upTo(w.SaidWait / 2)
			w.Config.LeaseMargin /= 2 // it is at most half of the lease
		}
	}
	for range d.IntN(4) {
		s.Faults = append(s.Faults, faultPlan{At: d.upTo(horizon), Kind: sinkRestart})
	}
}

// drawer draws random values.
type drawer struct{ *rand.Rand }

func newDrawer(seed, stream uint64) drawer { return drawer{rand.New(rand.NewPCG(seed, stream))} }

func (d drawer) chance(percent int) bool     { return d.IntN(100) < percent }
func (d drawer) between(least, most int) int { return least + d.IntN(most-least+1) }
func pick[T any](d drawer, from ...T) T      { return from[d.IntN(len(from))] }
func (d drawer) upTo(t time.Duration) time.Duration {
	return time.Duration(d.Int64N(int64(t/time.Millisecond)+1)) * time.Millisecond
}

// horizon is the latest time at which a fault begins.
const horizon = time.Minute

func (d drawer) consumer(mode server.Compat) consumerPlan {
	c := consumerPlan{
		Filter:  pick(d, ">", ">", "a.>", "*.0", "b.*", "*.1"),
		AckWait: pick(d, time.Second, 2*time.Second, 5*time.Second, 10*time.Second, 30*time.Second),
	}
	if mode == server.Documented && d.chance(10) {
		c.MaxDeliver = d.between(1, 5)
	}
	return c
}

func (d drawer) publisher() publisherPlan {
	p := publisherPlan{
		Start:   d.upTo(horizon / 6),
		Timeout: pick(d, time.Second, 5*time.Second, 30*time.Second),
		Config: sequin.PublisherConfig{
			Lanes:       pick(d, 0, 1, 2, 4),
			MaxBatch:    pick(d, 1, 3, 10, 100, 1000),
			MaxBuffered: pick(d, 1, 5, 20, 100, 10_000),
		},
		OnFailure: d.chance(30),
	}
	if d.chance(20) {
		p.Config.Linger = d.upTo(200 * time.Millisecond)
	}
	if d.chance(10) {
		p.Config.RetryFor = 5*time.Second + d.upTo(20*time.Second)
	}
	for range d.between(1, 10) {
		p.Steps = append(p.Steps, d.step())
	}
	return p
}

func (d drawer) step() step {
	st := step{
		Do:       pick(d, send, send, send, send, trySend, sendReceipt, sendReceipt, sendSync, flush, restart),
		N:        d.between(1, 25),
		Keys:     pick(d, 1, 3, 9, 30),
		Size:     pick(d, 0, 0, 100, 1000),
		Poison:   d.chance(15),
		Patience: d.upTo(5 * time.Second),
	}
	if d.chance(70) {
		st.Pause = d.upTo(horizon / 10)
	}
	switch st.Do {
	case send, sendReceipt:
		st.Patience += horizon / 2
	case sendSync:
		st.N = d.between(1, 3)
	}
	return st
}

func (d drawer) worker(consumers []consumerPlan) workerPlan {
	w := workerPlan{
		Consumer: d.IntN(len(consumers)),
		Start:    d.upTo(horizon / 3),
		Timeout:  pick(d, time.Second, 5*time.Second, 30*time.Second),
		Config: sequin.SubscriberConfig{
			MaxInFlight:      pick(d, 1, 2, 5, 30, 1000),
			MaxInFlightBytes: pick(d, 1, 500, 5_000, 64<<20, 64<<20),
			Pollers:          pick(d, 0, 0, 1, 2, 4),
			WaitFor:          pick(d, 500*time.Millisecond, 2*time.Second, 20*time.Second),
			DrainTimeout:     d.upTo(10*time.Second) + time.Millisecond,
		},
		Readers: d.between(1, 3),
		End:     pick(d, survive, closed, cancelled, killed),
	}
	ackWait := consumers[w.Consumer].AckWait
	if d.chance(20) {
		w.Config.LeaseMargin = d.upTo(ackWait/2-50*time.Millisecond) + 50*time.Millisecond
	}
	w.EndAt, w.Patience = d.upTo(horizon/2), d.upTo(5*time.Second)
	w.Habits.Work = pick(d, 0, 10*time.Millisecond, ackWait/10, ackWait/5, ackWait/2)
	for _, percent := range []*int{&w.Habits.AckSync, &w.Habits.Nack, &w.Habits.NackAfter, &w.Habits.Forget, &w.Habits.Overrun, &w.Habits.Twice, &w.Habits.Extend} {
		if d.chance(30) {
			*percent = d.IntN(16)
		}
	}
	if w.Handle = d.chance(30); w.Handle {
		w.Readers = min(w.Readers, w.Config.MaxInFlight)
		if d.chance(50) {
			w.Batch = min(pick(d, 1, 2, 5, 30), w.Config.MaxInFlight)
		}
	}
	return w
}

// fault draws a temporary fault.
func (d drawer) fault() faultPlan {
	f := faultPlan{
		At:    d.upTo(horizon),
		For:   d.upTo(horizon / 4),
		Kind:  faultKind(d.IntN(temporaryKinds)),
		Op:    pick(d, sequintest.Any, sequintest.Send, sequintest.Receive, sequintest.Receive, sequintest.Ack, sequintest.Ack, sequintest.Nack),
		Share: pick(d, 100, 100, 50, 33, 14),
	}
	switch {
	case d.chance(25):
		f.Kind = pick(d, cutAfter, slowAnswer, slowAnswer) // these leave the client in doubt whether the server acted
	case d.chance(25):
		f.Kind = pick(d, foreign, foreign, refusal)
	}
	d.complete(&f)
	return f
}

// complete draws what a fault of its kind needs.
func (d drawer) complete(f *faultPlan) {
	form := faultForms[f.Kind]
	if form.delay != noDelay {
		f.Delay = pick(d, 10*time.Millisecond, 300*time.Millisecond, 2*time.Second, 10*time.Second, 40*time.Second)
	}
	if form.only != sequintest.Any {
		f.Op = form.only
	}
	switch f.Kind {
	case down:
		if d.chance(20) {
			f.For = pick(d, time.Minute, 3*time.Minute)
		}
	case foreign:
		f.Status, f.Acted = pick(d, foreignStatuses...), d.chance(50)
		if d.chance(20) {
			f.For = 2 * time.Minute // of maintenance
		}
	case refusal:
		f.Status = pick(d, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound)
		if d.chance(20) {
			f.For = time.Minute // longer than a Subscriber goes on
		}
	case random500, random500Acted:
		f.Share = d.between(10, 90)
	case readTimeout504, readTimeoutCut:
		f.Delay = pick(d, time.Second, 3*time.Second, 10*time.Second)
	case slowDial, failedHandshake:
		f.Delay = d.upTo(4 * time.Second)
	case brokenBackend:
		f.Status, f.Share = pick(d, http.StatusInternalServerError, http.StatusBadGateway), d.between(20, 50)
	case slowLink:
		f.Limit = pick(d, slowestLink, 2*slowestLink, 5*slowestLink)
	case answerLimit502, answerLimitCut, requestLimit413, requestLimit502, requestLimitCut:
		f.Limit = pick(d, largestMessage, 2*largestMessage, 8*largestMessage)
	case tooLarge:
		f.Limit = largestMessage
	}
}

// slowestLink is the lowest rate of a link, in bytes a second. It carries the largest message, and its ack, well within the
// shortest lease; no library can use a slower one.
const slowestLink = 20_000

// lasting draws the faults that last for the whole run: what the server or a firewall thinks of poison, a limit of the
// server, and what is wrong with the way to it. There is at most one of each, because two may leave no way through.
func (d drawer) lasting() (faults []faultPlan) {
	for _, group := range []struct {
		percent int
		kinds   []faultKind
	}{
		{50, []faultKind{poison400, poison500, poison403, poison504, poisonReset, poisonHang}},
		{10, []faultKind{tooLarge}},
		{25, []faultKind{answerLimit502, answerLimitCut, readTimeout504, readTimeoutCut, slowLink, requestLimit413, requestLimit502, requestLimitCut, brokenBackend}},
	} {
		if d.chance(group.percent) {
			f := faultPlan{For: wholeRun, Kind: pick(d, group.kinds...), Op: sequintest.Send, Share: 100}
			d.complete(&f)
			faults = append(faults, f)
		}
	}
	return faults
}
