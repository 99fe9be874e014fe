package sim

import (
	"slices"
	"time"
)

// tries is how often a smaller schedule is run before it counts as passing. A failure that depends on the order in which
// goroutines run does not occur every time.
const tries = 3

// shrink returns a schedule, as small as possible, for which fails still holds. It removes one part at a time, until no
// smaller schedule fails or the budget is used up.
func shrink(s schedule, budget time.Duration, fails func(schedule) bool) schedule {
	began := time.Now()
	for {
		smaller, found := shrinkOnce(s, func() bool { return time.Since(began) > budget }, fails)
		if !found {
			return s
		}
		s = smaller
	}
}

// shrinkOnce returns a smaller schedule that fails, and whether there is one.
func shrinkOnce(s schedule, over func() bool, fails func(schedule) bool) (schedule, bool) {
	for _, c := range s.smaller() {
		for range tries {
			if over() {
				return s, false
			}
			if fails(c) {
				return c, true
			}
		}
	}
	return s, false
}

// smaller returns the schedules that lack one part of s, those that lack most first.
func (s schedule) smaller() (all []schedule) {
	for i := range s.Publishers {
		c := s
		c.Publishers = without(s.Publishers, i)
		all = append(all, c)
	}
	for i := range s.Workers {
		c := s
		c.Workers = without(s.Workers, i)
		all = append(all, c)
	}
	for i := range s.Consumers {
		if c, ok := s.withoutConsumer(i); ok {
			all = append(all, c)
		}
	}
	for i := range s.Faults {
		c := s
		c.Faults = without(s.Faults, i)
		all = append(all, c)
	}
	for i := range s.Purges {
		c := s
		c.Purges = without(s.Purges, i)
		all = append(all, c)
	}
	for i := range s.Without {
		c := s
		c.Without = without(s.Without, i)
		all = append(all, c)
	}
	for i, p := range s.Publishers {
		for _, smaller := range p.smaller() {
			c := s
			c.Publishers = slices.Clone(s.Publishers)
			c.Publishers[i] = smaller
			all = append(all, c)
		}
	}
	for i, w := range s.Workers {
		if w.Habits != (habits{}) {
			c := s
			c.Workers = slices.Clone(s.Workers)
			c.Workers[i].Habits = habits{}
			all = append(all, c)
		}
	}
	return all
}

func (p publisherPlan) smaller() (all []publisherPlan) {
	for i, st := range p.Steps {
		c := p
		c.Steps = without(p.Steps, i)
		all = append(all, c)
		if st.Headers {
			c := p
			c.Steps = slices.Clone(p.Steps)
			c.Steps[i].Headers = false
			all = append(all, c)
		}
		if st.N > 1 {
			c := p
			c.Steps = slices.Clone(p.Steps)
			c.Steps[i].N /= 2
			all = append(all, c)
		}
	}
	return all
}

// withoutConsumer returns s without a consumer and its workers. It reports false for the last consumer.
func (s schedule) withoutConsumer(i int) (schedule, bool) {
	if len(s.Consumers) == 1 {
		return s, false
	}
	c := s
	c.Consumers, c.Workers = without(s.Consumers, i), nil
	for _, w := range s.Workers {
		if w.Consumer == i {
			continue
		}
		if w.Consumer > i {
			w.Consumer--
		}
		c.Workers = append(c.Workers, w)
	}
	return c, true
}

func without[T any](list []T, i int) []T { return slices.Delete(slices.Clone(list), i, i+1) }
