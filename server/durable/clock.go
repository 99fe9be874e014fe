package durable

import "time"

// clock is the time of leases and idempotency keys, in nanoseconds since 1970. While the store is open it runs with the
// monotonic clock, so that a change of the system's time moves none of them.
type clock struct{ base time.Time }

func (c clock) now() int64 { return c.at(time.Now()) }

func (c clock) at(t time.Time) int64 { return c.base.UnixNano() + int64(t.Sub(c.base)) }

// monotonic returns the time as one that timers can wait for.
func (c clock) monotonic(t int64) time.Time { return c.base.Add(time.Duration(t - c.base.UnixNano())) }

// maxDrift is how far the system's time may be from the clock before wall follows the system's.
const maxDrift = time.Second

// wall returns the time as the system's clock shows it.
func (c clock) wall(t int64) time.Time {
	now := time.Now()
	if drift := now.Round(0).Sub(c.base.Round(0)) - now.Sub(c.base); drift.Abs() < maxDrift {
		return c.monotonic(t)
	}
	return now.Add(time.Duration(t - c.at(now)))
}
