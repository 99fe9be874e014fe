package flow

import "time"

const (
	// waitingReceiveGrace and receiveGrace are how long a stop lets a receive run that the server does not end. A receive that waits
	// at the server and has had no answer for 100 ms most likely waits for a message, and cancelling it loses nothing. Any other
	// receive is being answered now. If it were cancelled, its messages would stay leased until their leases end.
	waitingReceiveGrace = 100 * time.Millisecond
	receiveGrace        = 2 * time.Second
	// AskFor is how long a stop asks about a receive that the server does not know: it may have been answered just now, or be known
	// to another server on the same store. After that the receive is cancelled.
	AskFor = 100 * time.Millisecond
	// askAgainAfter is when a stop asks again. It doubles each time, which makes five requests.
	askAgainAfter = 5 * time.Millisecond
)

// Ending is what a stop knows about the end of a receive that waits at the server. Its methods get whether the receive waits, as far
// as the client knows: its answer has not begun to arrive.
type Ending struct {
	is    endingState
	at    time.Time // when the last request to end it was answered
	asked int       // how many such requests were answered
}

type endingState uint8

const (
	notAsked endingState = iota
	asking
	ending  // its answer is on its way
	unknown // to the server that answered, or it cannot be asked
)

// Ask reports whether to ask the server to end the receive now. Otherwise it returns when that may be, the zero time for never.
func (e *Ending) Ask(now time.Time, waits bool) (ask bool, next time.Time) {
	if !waits || e.is == asking || e.is == ending {
		return false, time.Time{}
	}
	if again := e.at.Add(askAgainAfter << max(0, e.asked-1)); now.Before(again) {
		return false, again
	}
	e.is = asking
	return true, time.Time{}
}

// Answered records the answer to a request to end the receive. ended says that the server ends it.
func (e *Ending) Answered(now time.Time, ended bool) {
	e.is, e.at = unknown, now
	if e.asked++; ended {
		e.is = ending
	}
}

// HoldsUp reports whether the receive might get a message that a stop returns, and lose it.
func (e *Ending) HoldsUp(now, started time.Time, waits bool) bool {
	switch e.is {
	case asking:
		return true
	case ending: // until its answer is there, which is empty or small
		return now.Before(e.at.Add(AskFor))
	case unknown:
		return waits
	}
	return waits && !now.Before(started.Add(waitingReceiveGrace))
}

// MayRunUntil is the time at which a stop that began at began cancels the receive.
func (e *Ending) MayRunUntil(began, started time.Time, waits bool) time.Time {
	switch {
	case waits && e.is == notAsked:
		return started.Add(waitingReceiveGrace)
	case waits && e.is == unknown:
		return began.Add(AskFor)
	}
	return began.Add(receiveGrace)
}
