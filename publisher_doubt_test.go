package sequin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// obstacle is a proxy, a firewall or a slow link between a client and the server. It answers a send itself, or returns nil
// and no error to pass it on. body is the JSON of the send.
type obstacle func(r *http.Request, body string) (*http.Response, error)

// obstructed is a transport with an obstacle.
type obstructed struct {
	obstacle obstacle
	next     http.RoundTripper
}

func (o obstructed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/messages") {
		return o.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	if resp, err := o.obstacle(r, string(body)); resp != nil || err != nil {
		return resp, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return o.next.RoundTrip(r)
}

// newObstructedWorld returns a world whose client meets an obstacle.
func newObstructedWorld(t *testing.T, cfg sequin.Config, o obstacle) *world {
	t.Helper()
	w := newWorld(t, sequintest.Config{KeepRequests: -1}, sequin.Config{})
	_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	cfg.BaseURL, cfg.HTTPClient = w.URL, w.Client()
	cfg.HTTPClient.Transport = obstructed{o, cfg.HTTPClient.Transport}
	w.client, err = sequin.NewClient(cfg)
	require.NoError(t, err)
	return w
}

// page returns an obstacle's answer to every request.
func page(status int, page string) obstacle {
	return func(r *http.Request, _ string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(page))}, nil
	}
}

// resets cuts the connection once the request was written.
func resets(*http.Request, string) (*http.Response, error) {
	return nil, &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
}

// hangs never answers the request.
func hangs(r *http.Request, _ string) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// meets is an obstacle to the sends that hold text.
func meets(text string, o obstacle) obstacle {
	return func(r *http.Request, body string) (*http.Response, error) {
		if strings.Contains(body, text) {
			return o(r, body)
		}
		return nil, nil
	}
}

// failureList is an OnFailure that records its calls.
type failureList struct {
	mu  sync.Mutex
	all []sequin.MessageError
}

func (l *failureList) add(e sequin.MessageError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *failureList) keys() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		keys = append(keys, e.Message.Key)
	}
	return keys
}

var quick = sequin.RetryConfig{MinWait: 10 * time.Millisecond, MaxWait: 100 * time.Millisecond}

// A firewall refuses one message of many. It fails alone, and the others are stored.
func TestAMessageThatAFirewallRefusesFailsAlone(t *testing.T) {
	const n, poison = 12_000, 777
	walls := map[string]obstacle{"403 page": page(403, "<html>blocked</html>"), "200 page": page(200, "<html>blocked</html>"),
		"418 page": page(418, ""), "500": page(500, ""), "504": page(504, "<html></html>"), "reset": resets, "hang": hangs}
	for name, wall := range walls {
		for _, cfg := range []sequin.PublisherConfig{{}, {RetryFor: time.Minute}, {Lanes: 1}} {
			t.Run(fmt.Sprintf("%s, RetryFor %v, Lanes %d", name, cfg.RetryFor, cfg.Lanes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newObstructedWorld(t, sequin.Config{Timeout: 300 * time.Millisecond, Retry: quick}, meets("' OR 1=1", wall))
					failed := new(failureList)
					cfg.MaxBuffered, cfg.OnFailure = 2000, failed.add // less than n: a lane that stops blocks Send
					pub, err := w.client.NewPublisher("orders", cfg)
					require.NoError(t, err)
					began := time.Now()
					sendUntilAccepted(w.ctx, t, pub, n, func(i int) string {
						if i == poison {
							return "name' OR 1=1"
						}
						return "harmless"
					})
					require.NoError(t, pub.Flush(w.ctx))
					require.Less(t, time.Since(began), 2*time.Minute)
					require.NoError(t, pub.Close(w.ctx))
					require.Equal(t, []string{"orders.777"}, failed.keys())
					require.Len(t, w.stored(t, "orders"), n-1)
				})
			})
		}
	}
}

// Although Config.Timeout is 30 s, a hang is decided within 2 minutes: the time-out follows the duration of other sends.
func TestAMessageThatHangsIsDecidedInTimeAtDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newObstructedWorld(t, sequin.Config{}, meets("poison", hangs))
		failed := new(failureList)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{OnFailure: failed.add})
		require.NoError(t, err)
		began := time.Now()
		for i := range 12_000 {
			data := "harmless"
			if i == 100 {
				data = "poison"
			}
			require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), data))
			time.Sleep(10 * time.Millisecond)
		}
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, []string{"k.100"}, failed.keys())
		require.Less(t, time.Since(began), 150*time.Second)
	})
}

// A full batch holds a message that makes each send time out, and no other message waits. Its lane waits for one time-out
// only, because a control shows that the server is not the cause.
func TestTheLastBatchIsDecidedInTimeWhenAMessageHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newObstructedWorld(t, sequin.Config{}, meets("poison", hangs))
		failed := new(failureList)
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, OnFailure: failed.add})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "first", Data: "harmless"}))
		began := time.Now()
		for i := range 1000 {
			data := "harmless"
			if i == 100 {
				data = "poison"
			}
			require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), data))
		}
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, []string{"k.100"}, failed.keys())
		require.Less(t, time.Since(began), 2*time.Minute)
	})
}

// Nothing else is sent while the message hangs, so that only sends without messages succeed. Their time says
// little about the time of a large batch.
func TestAMessageThatHangsIsDecidedInTimeWithoutOtherMessages(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		for _, n := range []int{1, 1000} {
			synctest.Test(t, func(t *testing.T) {
				w := newObstructedWorld(t, sequin.Config{}, meets("poison", hangs))
				w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 20 * time.Millisecond})
				failed := new(failureList)
				pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: lanes, OnFailure: failed.add})
				require.NoError(t, err)
				began := time.Now()
				padding := strings.Repeat("x", 500)
				for i := range n - 1 {
					require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), padding))
				}
				require.NoError(t, pub.Send(w.ctx, "guilty", padding+"poison"))
				require.NoError(t, pub.Close(w.ctx))
				require.Equal(t, []string{"guilty"}, failed.keys())
				require.Less(t, time.Since(began), 2*time.Minute, "%d lanes, %d messages", lanes, n)
			})
		}
	}
}

// RetryFor ends while one message hangs and nothing else is sent. The server works, so only that message may fail.
func TestRetryForFailsNoCompanionsOfAMessageThatHangs(t *testing.T) {
	for name, wall := range map[string]obstacle{"hang": hangs, "reset": resets, "413 page": page(413, "<html></html>")} {
		for _, retryFor := range []time.Duration{50 * time.Millisecond, 2 * time.Second, 30 * time.Second} {
			for _, lanes := range []int{1, 4} {
				t.Run(fmt.Sprintf("%s, RetryFor %v, Lanes %d", name, retryFor, lanes), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newObstructedWorld(t, sequin.Config{}, meets("poison", wall))
						pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: lanes, RetryFor: retryFor})
						require.NoError(t, err)
						sendAll(t, pub, 1000, 500)
						gone := failed(t, pub.Flush(w.ctx))
						require.Len(t, gone, 1)
						require.Equal(t, "orders.500", gone[0].Message.Key)
						require.NoError(t, pub.Close(w.ctx))
						require.Len(t, w.stored(t, "orders"), 999)
					})
				})
			}
		}
	}
}

// RetryFor ends, and a few controls fail by chance before one succeeds. That does not mean that nothing gets through.
func TestRetryForFailsNobodyBecauseOfAFewControls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var controls atomic.Int64
		w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
			switch {
			case strings.Contains(body, "poison"):
				return hangs(r, body)
			case !strings.Contains(body, "good") && controls.Add(1) < 5:
				return resets(r, body)
			}
			return nil, nil
		})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, RetryFor: 30 * time.Second})
		require.NoError(t, err)
		sendAll(t, pub, 1000, 500)
		require.Len(t, failed(t, pub.Flush(w.ctx)), 1)
		require.NoError(t, pub.Close(w.ctx))
		require.GreaterOrEqual(t, controls.Load(), int64(5))
	})
}

// One of four servers behind a load balancer never answers. That delays no decision for long, because controls time out as
// attempts at candidates do.
func TestAServerThatHangsAmongOthersDelaysNoDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn atomic.Int64
		w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
			if turn.Add(1)%4 == 0 || strings.Contains(body, "poison") {
				return hangs(r, body)
			}
			return nil, nil
		})
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		began := time.Now()
		sendAll(t, pub, 1000, 500)
		require.Len(t, failed(t, pub.Flush(w.ctx)), 1)
		require.Less(t, time.Since(began), 4*time.Minute, "a batch may wait for Timeout up to three times before it is suspected")
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, w.stored(t, "orders"), 999)
	})
}

// No message is at fault if a server fails at random.
func TestRandomFailuresFailNobody(t *testing.T) {
	for name, fault := range map[string]obstacle{"500": page(500, `{"errors":{"detail":"Internal Server Error"}}`), "reset": resets, "403": page(403, "")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 20_000
				var mu sync.Mutex
				dice := rand.New(rand.NewPCG(1, 2))
				w := newObstructedWorld(t, sequin.Config{Retry: quick}, func(r *http.Request, body string) (*http.Response, error) {
					mu.Lock()
					struck := dice.IntN(2) == 0
					mu.Unlock()
					if struck {
						return fault(r, body)
					}
					return nil, nil
				})
				failed := new(failureList)
				pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBatch: 20, OnFailure: failed.add})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(w.ctx, 10*time.Minute)
				defer cancel()
				sendUntilAccepted(ctx, t, pub, n, func(int) string { return "{}" })
				require.NoError(t, pub.Close(ctx))
				require.Empty(t, failed.keys())
				require.Len(t, w.stored(t, "orders"), n)
			})
		})
	}
}

// A load balancer sends requests to its servers in turn, and one of them is broken.
func TestABrokenServerAmongOthersFailsNobody(t *testing.T) {
	for servers := 2; servers <= 4; servers++ {
		for _, messages := range []int{1, 1000} {
			for seed := range 10 {
				t.Run(fmt.Sprintf("one of %d, %d messages, seed %d", servers, messages, seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var n atomic.Int64
						n.Store(int64(seed))
						w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
							if n.Add(1)%int64(servers) == 0 {
								return resets(r, body)
							}
							return nil, nil
						})
						pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1 + 3*(seed%2)})
						require.NoError(t, err)
						for range 20 {
							sendUntilAccepted(w.ctx, t, pub, messages, func(int) string { return "" })
							require.NoError(t, pub.Flush(w.ctx))
						}
						require.NoError(t, pub.Close(w.ctx))
					})
				})
			}
		}
	}
}

// sendUntilAccepted sends n messages. It retries those that a suspended Publisher refuses.
func sendUntilAccepted(ctx context.Context, t *testing.T, pub *sequin.Publisher, n int, data func(i int) string) {
	t.Helper()
	for i := range n {
		for pub.Send(ctx, fmt.Sprint("orders.", i), data(i)) != nil {
			require.NoError(t, ctx.Err(), "message %d", i)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// For two minutes something other than Sequin answers: a maintenance page, a login page, or a broken proxy. No message
// fails, whether the Publisher has had a success before or not.
func TestTwoMinutesOfForeignAnswersFailNobody(t *testing.T) {
	for _, status := range []int{200, 307, 400, 401, 403, 404, 405, 413, 421, 425, 500, 502, 503} {
		for _, first := range []int{0, 1000} {
			t.Run(fmt.Sprintf("%d after %d messages", status, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					down := func() bool {
						return time.Since(began) > time.Duration(first)*time.Millisecond && time.Since(began) < 2*time.Minute
					}
					site := page(status, "<html>back soon</html>")
					w := newObstructedWorld(t, sequin.Config{}, func(r *http.Request, body string) (*http.Response, error) {
						if down() {
							return site(r, body)
						}
						return nil, nil
					})
					failed := new(failureList)
					pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBuffered: 1000, MaxBatch: 100, OnFailure: failed.add})
					require.NoError(t, err)
					ctx, cancel := context.WithTimeout(w.ctx, 4*time.Minute)
					defer cancel()
					if first > 0 {
						sendUntilAccepted(ctx, t, pub, first, func(int) string { return "before" })
						require.NoError(t, pub.Flush(ctx))
					}
					time.Sleep(2 * time.Second)
					sendUntilAccepted(ctx, t, pub, 2500, func(int) string { return "" })
					require.NoError(t, pub.Flush(ctx))
					require.Less(t, time.Since(began), 3*time.Minute, "it goes on soon")
					require.NoError(t, pub.Close(ctx))
					require.Empty(t, failed.keys())
					require.Len(t, w.stored(t, "orders"), 2500)
					require.Less(t, w.Count(sequintest.Send), 2000)
				})
			})
		}
	}
}

// Lanes: 1 keeps the order of all messages, also beside one that fails.
func TestOneLaneKeepsTheOrderOfAllMessagesBesideOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newObstructedWorld(t, sequin.Config{Retry: quick}, meets("poison", resets))
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{Lanes: 1, MaxBatch: 100})
		require.NoError(t, err)
		sendAll(t, pub, 1000, 250)
		require.Len(t, failed(t, pub.Flush(w.ctx)), 1)
		require.NoError(t, pub.Close(w.ctx))
		s, _ := w.Stream("orders")
		require.Len(t, s.Messages, 999)
		for i := 1; i < len(s.Messages); i++ {
			var a, b int
			_, _ = fmt.Sscanf(s.Messages[i-1].Data, "good %d", &a)
			_, _ = fmt.Sscanf(s.Messages[i].Data, "good %d", &b)
			require.Less(t, a, b)
		}
	})
}
