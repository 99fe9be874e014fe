package sim

import (
	"fmt"
	"time"
)

// violation is a promise that did not hold.
type violation struct {
	promise  string
	text     string
	consumer string    // "" if no consumer is concerned
	key      string    // of the message concerned; "" if there is none
	at       time.Time // zero if no single moment broke the promise
}

func (v violation) String() string { return v.promise + ": " + v.text }

// when returns a copy of v with the time at which the promise was broken.
func (v violation) when(at time.Time) violation { v.at = at; return v }

// violationOf returns a violation without a promise, which verify adds.
func violationOf(consumer, key, format string, args ...any) violation {
	return violation{text: fmt.Sprintf(format, args...), consumer: consumer, key: key}
}
