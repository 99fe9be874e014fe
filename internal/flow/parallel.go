package flow

import "time"

// Parallel is how many receives may run at once. They share the way from the server. On a slow one each may be in time alone,
// and none together.
type Parallel struct{ size, most int }

// NewParallel returns a Parallel of at most most receives, which is also its first size.
func NewParallel(most int) Parallel { return Parallel{size: most, most: most} }

// Size returns how many receives may run at once.
func (p *Parallel) Size() int { return p.size }

// TooSlow records that an answer timed out, or came too late for its lease, while other receives ran as well. With none, less
// at once would not help.
func (p *Parallel) TooSlow(others int) {
	if others > 0 {
		p.size = max(1, p.size/2)
	}
}

// Arrived records an answer that took a part of its lease. The size grows by one after a quick answer.
func (p *Parallel) Arrived(took, lease time.Duration) {
	if p.size < p.most && took < lease/4 {
		p.size++
	}
}
