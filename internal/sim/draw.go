package sim

import (
	"math/rand/v2"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// draw returns the schedule of a seed. The same seed always gives the same schedule.
func draw(seed uint64) schedule {
	d := drawer{rand.New(rand.NewPCG(seed, 0))}
	s := schedule{Seed: seed, Mode: server.Compat(d.IntN(2))}
	if s.Mode == server.Documented {
		s.Stream = sequin.StreamOptions{OneMessagePerKey: d.chance(50), ProcessUnmodified: d.chance(20)}
		if d.chance(10) {
			s.Stream.RetainUpTo = d.between(5, 100)
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
	return s
}

// drawer draws random values.
type drawer struct{ *rand.Rand }

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
			Lanes:       pick(d, 1, 1, 2, 4),
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
			MaxInFlight:  pick(d, 1, 2, 5, 30, 1000),
			Pollers:      pick(d, 1, 2, 2, 4),
			WaitFor:      pick(d, 500*time.Millisecond, 2*time.Second, 20*time.Second),
			DrainTimeout: d.upTo(10*time.Second) + time.Millisecond,
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
	for _, percent := range []*int{&w.Habits.AckSync, &w.Habits.Nack, &w.Habits.NackAfter, &w.Habits.Forget, &w.Habits.Overrun, &w.Habits.Twice} {
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
		Every: pick(d, 1, 1, 2, 3, 7),
	}
	if d.chance(30) {
		f.Kind = pick(d, cutAfter, slowAnswer, slowAnswer) // these leave the client in doubt whether the server acted
	}
	kind := faultKinds[f.Kind]
	if f.Kind == down && d.chance(20) {
		f.For = pick(d, time.Minute, 3*time.Minute)
	}
	if kind.delay != noDelay {
		f.Delay = pick(d, 10*time.Millisecond, 300*time.Millisecond, 2*time.Second, 10*time.Second, 40*time.Second)
	}
	if kind.only != sequintest.Any {
		f.Op = kind.only
	}
	return f
}

// lasting draws the faults that last for the whole run.
func (d drawer) lasting() (faults []faultPlan) {
	always := faultPlan{For: 24 * time.Hour, Op: sequintest.Send, Every: 1}
	if d.chance(30) {
		always.Kind = pick(d, poison400, poison500)
		faults = append(faults, always)
	}
	if d.chance(10) {
		always.Kind = tooLarge
		faults = append(faults, always)
	}
	return faults
}
