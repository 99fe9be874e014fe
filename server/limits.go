package server

import "time"

// Limits bound what clients can make a Server use. A value of zero or less means the default.
type Limits struct {
	// Connections is how many connections an http.Server of HTTPServer serves at once; default 10,000. The first request
	// on a further one is answered 503, and the connection is closed.
	Connections int
	// RequestBytes is the size of the largest body; default 8,000,000, as the 2024 server has it. A larger body is
	// answered 413.
	RequestBytes int
	// HeaderTime is how long the header of a request may take to arrive at an http.Server of HTTPServer; default 10 s.
	HeaderTime time.Duration
	// IdleTime is how long an http.Server of HTTPServer keeps a connection without a request; default 2 min.
	IdleTime time.Duration
	// Waiting is how many receives of one consumer may wait at once, even if its max_waiting is larger; default 1,000.
	// A further one is answered 429.
	Waiting int
	// Streams is how many streams there may be; default 10,000. The request for a further one is answered 422.
	Streams int
	// BytesInFlight is how much memory the bodies of running requests and their answers may take; default 256 MiB, and at
	// least RequestBytes. While there is more, requests with a body and receives are answered 429 with Retry-After. Acks and
	// nacks have an eighth of it beside, so that consumers can settle what they got.
	BytesInFlight int64
}

// The defaults of the limits. A connection takes about 10 kB, a stream about 1 kB.
const (
	defaultConnections   = 10_000
	defaultHeaderTime    = 10 * time.Second
	defaultIdleTime      = 2 * time.Minute
	defaultWaiting       = 1_000
	defaultStreams       = 10_000
	defaultBytesInFlight = 256 << 20
)

// withDefaults returns the limits with the defaults in the place of zeros.
func (l Limits) withDefaults() Limits {
	orDefault(&l.Connections, defaultConnections)
	orDefault(&l.RequestBytes, defaultRequestBytes)
	orDefault(&l.HeaderTime, defaultHeaderTime)
	orDefault(&l.IdleTime, defaultIdleTime)
	orDefault(&l.Waiting, defaultWaiting)
	orDefault(&l.Streams, defaultStreams)
	orDefault(&l.BytesInFlight, defaultBytesInFlight)
	l.BytesInFlight = max(l.BytesInFlight, int64(l.RequestBytes))
	return l
}

// orDefault sets a value that is not set.
func orDefault[T int | int64 | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// retryAfter is the Retry-After, in seconds, of a refusal that ends when others are done.
const retryAfter = "1"
