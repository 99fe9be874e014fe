package sequin_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// distance is an obstacle that delays each send, and records what is in flight.
type distance struct {
	t     *testing.T
	delay time.Duration

	mu       sync.Mutex
	keys     map[string]bool // in flight
	inFlight int
	most     int
	sizes    []int // messages of each request
}

var keyInBody = regexp.MustCompile(`"key":"([^"]*)"`)

func (d *distance) meet(_ *http.Request, body string) (*http.Response, error) {
	keys := keyInBody.FindAllStringSubmatch(body, -1)
	d.mu.Lock()
	d.inFlight++
	d.most = max(d.most, d.inFlight)
	d.sizes = append(d.sizes, len(keys))
	for _, k := range keys {
		if d.keys[k[1]] {
			d.t.Errorf("two requests with the key %s are in flight", k[1])
		}
		d.keys[k[1]] = true
	}
	d.mu.Unlock()
	time.Sleep(d.delay)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
	for _, k := range keys {
		delete(d.keys, k[1])
	}
	return nil, nil
}

// A Publisher over a long way has more requests in flight, and one over a short way has four. A number that is set stays, and a
// key never has two requests in flight.
func TestAPublisherFindsTheNumberOfItsLanes(t *testing.T) {
	for _, row := range []struct {
		name  string
		delay time.Duration
		cfg   sequin.PublisherConfig
		most  int
	}{
		{"50 ms", 50 * time.Millisecond, sequin.PublisherConfig{}, 64},
		{"5 ms", 5 * time.Millisecond, sequin.PublisherConfig{}, 4},
		{"50 ms, set", 50 * time.Millisecond, sequin.PublisherConfig{Lanes: 4}, 4},
		{"50 ms, one", 50 * time.Millisecond, sequin.PublisherConfig{Lanes: 1}, 1},
		{"50 ms, five", 50 * time.Millisecond, sequin.PublisherConfig{Lanes: 5}, 5},
		{"50 ms, a buffer of 1,000", 50 * time.Millisecond, sequin.PublisherConfig{MaxBuffered: 1000}, 16}, // two full requests for each
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &distance{t: t, delay: row.delay, keys: map[string]bool{}}
				w := newObstructedWorld(t, sequin.Config{}, d.meet)
				row.cfg.MaxBatch = 25
				pub, err := w.client.NewPublisher("orders", row.cfg)
				require.NoError(t, err)
				const n, keys = 60_000, 50_000
				for i := range n {
					require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i%keys), strconv.Itoa(i)))
					require.LessOrEqual(t, pub.Stats().Buffered, 20_000+60*5*25)
				}
				require.NoError(t, pub.Close(w.ctx))
				require.Equal(t, row.most, d.most)
				third := len(d.sizes) / 3
				require.Greater(t, mean(d.sizes[third:2*third]), 24.0, "full requests")
				last := map[string]int{}
				s, _ := w.Stream("orders")
				for _, m := range s.Messages {
					i, err := strconv.Atoi(m.Data)
					require.NoError(t, err)
					require.GreaterOrEqual(t, i, last[m.Key], m.Key)
					last[m.Key] = i
				}
				require.Len(t, last, keys)
			})
		})
	}
}

// A lane that sends less than MaxBatchBytes is no reason for more lanes.
func TestAPublisherTriesNoMoreLanesWhileRequestsAreTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &distance{t: t, delay: 50 * time.Millisecond, keys: map[string]bool{}}
		w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
			if len(body) > 2000 {
				return page(http.StatusRequestEntityTooLarge, "")(r, body)
			}
			return d.meet(r, body)
		})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBatch: 100})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "first", Data: "small"}))
		sendAll(t, pub, 20_000)
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, 4, d.most)
		require.Greater(t, w.Count(sequintest.Send), 300)
	})
}

func mean(xs []int) float64 {
	sum := 0
	for _, x := range xs {
		sum += x
	}
	return float64(sum) / float64(max(1, len(xs)))
}

// The buffer has room for five full requests of each lane, unless its size is set.
func TestTheBufferGrowsWithTheLanes(t *testing.T) {
	for _, row := range []struct {
		cfg  sequin.PublisherConfig
		room int
	}{
		{sequin.PublisherConfig{}, 20_000},
		{sequin.PublisherConfig{Lanes: 1}, 20_000},
		{sequin.PublisherConfig{Lanes: 8}, 40_000},
		{sequin.PublisherConfig{Lanes: 8, MaxBatch: 100}, 22_000},
		{sequin.PublisherConfig{Lanes: 8, MaxBuffered: 100}, 100},
	} {
		inDocumented(t, func(t *testing.T, w *world) {
			w.Down()
			pub, err := w.client.NewPublisher("orders", row.cfg)
			require.NoError(t, err)
			accepted := 0
			for err == nil {
				if err = pub.TrySend("orders.1", "x"); err == nil {
					accepted++
				}
			}
			require.ErrorIs(t, err, sequin.ErrBufferFull)
			require.Equal(t, row.room, accepted)
			require.Error(t, pub.Close(endedCtx()))
		})
	}
}
