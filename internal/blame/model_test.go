package blame

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// faultyServer models a server with a fault. Whether a request succeeds depends on the time and on its connection.
type faultyServer struct {
	name string
	// serves reports whether a request gets through. Each request has a new connection.
	serves func(now time.Duration, dice *rand.Rand, empty bool) bool
	// decides reports that enough requests succeed for the guilty message to fail in time.
	decides bool
	// innocents is how many innocent messages may fail.
	innocents int
}

func independent(rate float64) func(time.Duration, *rand.Rand, bool) bool {
	return func(_ time.Duration, dice *rand.Rand, _ bool) bool { return dice.Float64() >= rate }
}

// bursts serves nothing for the first part of each period.
func bursts(period, down time.Duration) func(time.Duration, *rand.Rand, bool) bool {
	return func(now time.Duration, _ *rand.Rand, _ bool) bool { return now%period >= down }
}

var faultyServers = []faultyServer{
	{"none", independent(0), true, 0},
	{"one request in ten fails", independent(0.1), true, 0},
	{"one broken backend of four", independent(0.25), true, 0},
	{"half of the requests fail", independent(0.5), true, 0},
	{"two of three fail", independent(0.67), false, 0},
	{"nine of ten fail", independent(0.9), false, 0},
	{"bursts of 300 ms each second", bursts(time.Second, 300*time.Millisecond), true, 0},
	{"bursts of 2 s in 5", bursts(5*time.Second, 2*time.Second), true, 0},
	{"unavailable", independent(1), false, 0},
	{"empty sends alone pass", func(_ time.Duration, _ *rand.Rand, empty bool) bool { return empty }, false, maxFailedByEmpty},
}

// publisher is a minimal caller of the package: it attempts one batch, with controls between the attempts.
type publisher struct {
	tracker  Tracker
	dice     *rand.Rand
	serves   func(now time.Duration, dice *rand.Rand, empty bool) bool
	others   bool // messages of other keys wait, so that controls have messages
	now      time.Duration
	requests int
	sent     map[int]bool
	failed   map[int]bool
}

const (
	roundTrip = 10 * time.Millisecond
	pause     = 100 * time.Millisecond // the default least wait between attempts
)

func (p *publisher) request(empty bool) bool {
	p.requests++
	p.now += roundTrip
	return p.serves(p.now, p.dice, empty)
}

func (p *publisher) control() {
	if p.request(!p.others) {
		messages := 0
		if p.others {
			messages = 1000
		}
		p.tracker.Succeeded(messages, 100_000, roundTrip)
		return
	}
	p.tracker.Failed()
	p.now += pause
}

// run attempts the messages until each was sent or has failed, or the deadline has passed.
func (p *publisher) run(messages []int, guilty map[int]bool, deadline time.Duration) {
	var c Case
	for p.now < deadline {
		if !p.tracker.Controlled(&c) {
			p.control()
			continue
		}
		switch p.tracker.Decide(&c, len(messages)) {
		case Split:
			half := len(messages) / 2
			p.run(messages[:half], guilty, deadline)
			p.run(messages[half:], guilty, deadline)
			return
		case Fail:
			p.failed[messages[0]] = true
			return
		}
		poisoned := false
		for _, m := range messages {
			poisoned = poisoned || guilty[m]
		}
		if p.request(false) && !poisoned {
			for _, m := range messages {
				p.sent[m] = true
			}
			return
		}
		p.tracker.Refused(&c, 0)
		p.now += pause
	}
}

func TestNoInnocentFailsAndTheGuiltyFailInTime(t *testing.T) {
	const size = 1000
	for _, server := range faultyServers {
		for seed := range uint64(100) {
			p := &publisher{dice: rand.New(rand.NewPCG(seed, 1)), serves: server.serves, others: seed%2 == 0,
				sent: map[int]bool{}, failed: map[int]bool{}}
			batch := make([]int, size)
			for i := range batch {
				batch[i] = i
			}
			guilty := map[int]bool{}
			for range seed % 3 {
				guilty[p.dice.IntN(size)] = true
			}
			deadline := 2 * time.Minute * time.Duration(max(1, len(guilty)))
			p.run(batch, guilty, deadline)
			innocents := 0
			for m := range p.failed {
				if !guilty[m] {
					innocents++
				}
			}
			require.LessOrEqual(t, innocents, server.innocents, "%s, seed %d: innocent messages failed", server.name, seed)
			require.Less(t, p.requests, 12_000, "%s, seed %d", server.name, seed)
			if server.decides {
				require.Len(t, p.failed, len(guilty), "%s, seed %d: after %v and %d requests", server.name, seed, p.now, p.requests)
				require.Len(t, p.sent, size-len(guilty), "%s, seed %d", server.name, seed)
			}
		}
	}
}
