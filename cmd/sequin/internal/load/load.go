// Package load measures a server: Publishers send to a stream, and Subscribers receive from it.
package load

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// Part is what is measured.
type Part string

const (
	Publish  Part = "publish"    // Publishers send as fast as they can
	Consume  Part = "consume"    // Subscribers receive and ack the messages of Publish as fast as they can
	EndToEnd Part = "end-to-end" // Publishers send at a rate, and Subscribers receive and ack meanwhile
)

// Parts has every part, in the order in which they are measured.
var Parts = []Part{Publish, Consume, EndToEnd}

// Config says how a server is measured.
type Config struct {
	// Connect returns a client with connections of its own, and a function that closes them. wrap wraps its transport.
	Connect func(wrap func(http.RoundTripper) http.RoundTripper) (client *sequin.Client, disconnect func(), err error)
	Stream  string // id of a stream without messages

	Messages    int           // of Publish and Consume
	Size        int           // of the data of a message, in bytes
	Publishers  int           // each has a client of its own
	Subscribers int           // each has a client of its own
	Rate        int           // of EndToEnd, in messages a second
	For         time.Duration // of EndToEnd

	// Progress shows how many messages of a part are done, until stop is called.
	Progress func(part Part, messages int, done func() int64) (stop func())
}

// Result is what was measured.
type Result struct {
	Part     Part
	Messages int
	Clients  int
	Took     time.Duration // to the last answer for Publish, and to the last delivery for the others
	// Latencies are, for Publish, the times of the requests and, for EndToEnd, the times between the moment at which a message
	// is due to be sent and its delivery. Consume has none.
	Latencies Latencies
}

// run is a measurement.
type run struct {
	Config
	data string // of every message
}

// Run measures parts, and returns their results in the order of Parts. Consume without Publish sends its messages, too, but has no
// result for that. Run stops when ctx ends.
func Run(ctx context.Context, cfg Config, parts []Part) (results []Result, err error) {
	r := &run{cfg, randomText(cfg.Size)}
	for _, part := range Parts {
		wanted := slices.Contains(parts, part)
		needed := part == Publish && slices.Contains(parts, Consume)
		if !wanted && !needed {
			continue
		}
		result, err := r.measure(ctx, part)
		if err != nil {
			return nil, err
		}
		if wanted {
			results = append(results, result)
		}
	}
	return results, nil
}

func (r *run) measure(ctx context.Context, part Part) (Result, error) {
	switch part {
	case Publish:
		return r.measurePublish(ctx)
	case Consume:
		return r.measureConsume(ctx)
	default:
		return r.measureEndToEnd(ctx)
	}
}

func randomText(bytes int) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
	text := make([]byte, bytes)
	for i := range text {
		text[i] = letters[rand.IntN(len(letters))]
	}
	return string(text)
}

// each runs f on n goroutines, and returns the first error. It ends the ctx of the others.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) (first error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var once sync.Once
	for i := range n {
		all.Go(func() {
			if err := f(ctx, i); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	all.Wait()
	return first
}
