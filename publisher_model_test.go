package sequin_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

var modelSeeds = flag.Uint64("model.seeds", randomServers, "how many random servers a Publisher meets in the model test")

// faultyServer is a server with a random fault, which may also refuse messages with "poison" in them.
type faultyServer struct {
	name   string
	well   bool // the guilty fail in time
	mu     sync.Mutex
	dice   *rand.Rand
	began  time.Time
	turn   int
	fails  func(now time.Duration) bool // a request that holds any messages, or none
	answer obstacle                     // to what fails
	refuse obstacle                     // to poison
}

func newFaultyServer(dice *rand.Rand) *faultyServer {
	s := &faultyServer{dice: dice, began: time.Now()}
	kinds := []string{"bare 500", "reset", "hang", "403 page", "413 page", "504"}
	kind := func() (string, obstacle) {
		i := dice.IntN(len(kinds))
		return kinds[i], []obstacle{page(500, ""), resets, hangs, page(403, "<html></html>"), page(413, "<html></html>"), page(504, "")}[i]
	}
	what, answer := kind()
	how, refuse := kind()
	s.answer, s.refuse = answer, refuse
	rate := 0.1 + 0.8*dice.Float64()
	status := []int{307, 400, 403, 405, 413, 421, 425}[dice.IntN(7)]
	faults := []struct {
		name  string
		well  bool
		fails func(now time.Duration) bool
	}{
		{"no fault", true, func(time.Duration) bool { return false }},
		{fmt.Sprintf("%.0f %% fail with %s", 100*rate, what), rate < 0.4 && what != "hang", func(time.Duration) bool { return dice.Float64() < rate }},
		{"one of four servers broken, with " + what, what != "hang", func(time.Duration) bool { s.turn++; return s.turn%4 == 0 }},
		{"bursts of 2 s in 5 with " + what, false, func(now time.Duration) bool { return now%(5*time.Second) < 2*time.Second }},
		{"sends unavailable for 2 minutes with " + what, false, func(now time.Duration) bool { return now > time.Second && now < 2*time.Minute }},
		{fmt.Sprintf("two minutes of %d", status), false, func(now time.Duration) bool { return now < 2*time.Minute }},
	}
	i := dice.IntN(len(faults))
	if i == 5 {
		s.answer = page(status, "<html>back soon</html>")
	}
	s.name, s.well, s.fails = faults[i].name+"; poison gets "+how, faults[i].well, faults[i].fails
	return s
}

// meet is the obstacle.
func (s *faultyServer) meet(r *http.Request, body string) (*http.Response, error) {
	s.mu.Lock()
	now := time.Since(s.began)
	fails := now < 10*time.Minute && s.fails(now) // while most sends fail, no batch is halved and no message fails
	s.mu.Unlock()
	switch {
	case fails:
		return s.answer(r, body)
	case strings.Contains(body, "poison"):
		return s.refuse(r, body)
	}
	return nil, nil
}

// Whatever the server does, no innocent message fails, a guilty one fails in time if enough other sends succeed, the
// versions of a key are stored in order, and the number of requests is limited.
func TestAPublisherKeepsItsPromisesToRandomServers(t *testing.T) {
	t.Parallel() // one of the longest
	for seed := range *modelSeeds {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 3))
			s := newFaultyServer(rand.New(rand.NewPCG(seed, 4)))
			name := fmt.Sprintf("seed %d: %s", seed, s.name)
			w := newObstructedWorld(t, sequin.Config{}, s.meet)
			failed := new(failureList)
			cfg := sequin.PublisherConfig{Lanes: []int{1, 0, 8}[dice.IntN(3)], MaxBatch: []int{1, 10, 100, 1000}[dice.IntN(4)],
				MaxBuffered: 100 + dice.IntN(1500), OnFailure: failed.add}
			pub, err := w.client.NewPublisher("orders", cfg)
			require.NoError(t, err)
			const n, keys = 1200, 700
			guilty := dice.IntN(3)
			pause := time.Duration(dice.IntN(3)) * 2 * time.Millisecond
			ctx, cancel := context.WithTimeout(w.ctx, 6*time.Hour)
			defer cancel()
			for i := range n {
				data := fmt.Sprint(i)
				if i > 0 && i%500 == 0 && i <= guilty*500 {
					data += " poison"
				}
				for pub.Send(ctx, fmt.Sprint("k.", i%keys), data) != nil {
					require.NoError(t, ctx.Err(), "%s: message %d", name, i)
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(pause)
			}
			require.NoError(t, pub.Flush(ctx), name)
			took := time.Since(s.began)
			require.NoError(t, pub.Close(ctx), name)
			var want []string
			for g := range guilty {
				want = append(want, fmt.Sprint("k.", (g+1)*500%keys))
			}
			require.ElementsMatch(t, want, failed.keys(), name)
			if s.well {
				require.Less(t, took, 3*time.Minute, name)
			}
			last := map[string]int{}
			state, _ := w.Stream("orders")
			for _, m := range state.Messages {
				var i int
				_, _ = fmt.Sscan(m.Data, &i)
				require.GreaterOrEqual(t, i, last[m.Key], "%s: key %s", name, m.Key)
				last[m.Key] = i
			}
			require.GreaterOrEqual(t, len(last), keys-guilty, name)
			require.Less(t, w.Count(sequintest.Send), 4*n+4000, name)
		})
	}
}
