package batch

import "time"

// alarm calls ring at a time that can be changed.
type alarm struct {
	ring  func()
	timer *time.Timer
	at    time.Time // zero when it is not set
}

// set makes the alarm call ring at that time, or never if it is zero.
func (a *alarm) set(at time.Time) {
	if at.Equal(a.at) {
		return
	}
	switch a.at = at; {
	case at.IsZero():
		a.timer.Stop()
	case a.timer == nil:
		a.timer = time.AfterFunc(time.Until(at), a.ring)
	default:
		a.timer.Reset(time.Until(at))
	}
}

// free makes the alarm ring no more, and frees its timer.
func (a *alarm) free() {
	a.set(time.Time{})
	a.timer = nil
}
