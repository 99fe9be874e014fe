package sequin_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// A proxy before the server cuts or replaces answers above 64 KB, or a link is too slow for them. The messages have 10 KB,
// and a Subscriber asks for 32 and more at once.
func TestReceivesAskForLessUntilTheirAnswersGetThrough(t *testing.T) {
	const n, limit = 300, 64 << 10
	for name, fault := range map[string]sequintest.Fault{
		"cut":       {CutAfter: true, MaxAnswer: limit},
		"truncated": {Truncate: limit, MaxAnswer: limit},
		"502":       {Status: 502, Body: "<html>upstream sent too big body</html>", Acted: true, MaxAnswer: limit},
		"a_page":    {Garble: true, MaxAnswer: limit},
		"slow":      {BytesPerSecond: 30_000}, // 32 messages take 11 s, more than the lease
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 5 * time.Second})
				for i := range n {
					w.send(t, fmt.Sprintf("orders.%d", i), strings.Repeat("x", 10<<10))
				}
				fault.Op = sequintest.Receive
				w.Fault(fault)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				began, seen := time.Now(), map[string]bool{}
				for len(seen) < n {
					d := next(t, sub, time.Minute)
					require.NoError(t, d.Ack())
					seen[d.Key] = true
				}
				require.Less(t, time.Since(began), 5*time.Minute)
				require.Less(t, w.Count(sequintest.Receive), 400)
				closeNow(t, sub)
			})
		})
	}
}

// Each message alone arrives in time on a slow link, and those of all receives together do not.
func TestLargeMessagesOfManyReceivesArriveOnASlowLink(t *testing.T) {
	const n, size, rate = 60, 200_000, 100_000
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		for i := range n {
			w.send(t, fmt.Sprintf("orders.%d", i), strings.Repeat("x", size))
		}
		slow := slowLink(rate)
		client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := behind.RoundTrip(r)
				if err != nil {
					return nil, err
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				resp.Body = io.NopCloser(bytes.NewReader(body))
				if _, err := slow(r, string(body)); err != nil {
					return nil, err
				}
				return resp, nil
			})
		})
		sub := subscribe(t, client, sequin.SubscriberConfig{Pollers: 8})
		began, seen := time.Now(), map[string]bool{}
		for len(seen) < n {
			d := next(t, sub, 10*time.Minute)
			require.NoError(t, d.Ack())
			seen[d.Key] = true
		}
		require.Less(t, time.Since(began), 15*time.Minute, "the link needs 2 minutes, and most of the rest is spent to find that out")
		_ = sub.Close(endedCtx())
	})
}

// The Subscriber learns the read time-out of a proxy that cuts a receive before the end of its WaitFor. Otherwise each
// message that the server delivers to a request which the proxy has cut would be delayed by its lease.
func TestTheReadTimeoutOfAProxyIsLearned(t *testing.T) {
	for _, timeout := range []time.Duration{2 * time.Second, 5 * time.Second, time.Minute} {
		for name, fault := range map[string]sequintest.Fault{
			"cut":                {CutAfter: true},
			"504":                {Status: 504, Body: "<html>504 Gateway Time-out</html>", Acted: true},
			"408":                {Status: 408, Body: "<html>408 Request Time-out</html>", Acted: true},
			"204":                {Status: 204, Acted: true},
			"cut short":          {Status: 200, Body: `{"data":`, Acted: true},
			"504 with a summary": {Status: 504, Body: `{"summary":"upstream timed out"}`, Acted: true},
		} {
			t.Run(fmt.Sprintf("%v_%s", timeout, name), func(t *testing.T) {
				inMode(t, server.Documented, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 90 * time.Second})
					fault.Op, fault.MaxWait = sequintest.Receive, timeout
					cuts := w.Fault(fault)
					sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: 4 * time.Minute})
					var delays []time.Duration
					began := time.Now()
					for i := range 40 {
						time.Sleep(time.Duration(17+i*7%60) * time.Second)
						sent := time.Now()
						w.send(t, fmt.Sprintf("orders.%d", i), "x")
						require.NoError(t, next(t, sub, 5*time.Minute).AckSync(w.ctx))
						delays = append(delays, time.Since(sent))
					}
					slices.Sort(delays)
					require.Less(t, delays[len(delays)/2], 2*timeout)
					require.Less(t, delays[len(delays)*9/10], 2*timeout)
					require.LessOrEqual(t, cuts.Hits(), 2+int(time.Since(began)/(10*time.Minute)), "a longer wait is tried rarely")
					closeNow(t, sub)
				})
			})
		}
	}
}

// An outage is logged when it begins and when it ends, however many receives fail in between. The log names the stream and
// the consumer.
func TestTheLogTellsAnOutageOfReceivesOnceEachWay(t *testing.T) {
	for _, mode := range []server.Compat{server.Documented, server.Aug2024} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			w := newWorld(t, sequintest.Config{Compat: mode}, sequin.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			w.stream(t, "orders", sequin.ConsumerOptions{})
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			page := w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 403, Body: "<html>"})
			time.Sleep(5 * time.Minute)
			require.Greater(t, page.Hits(), 10)
			page.Remove()
			time.Sleep(time.Minute)
			w.send(t, "k.1", "x")
			require.NoError(t, next(t, sub, time.Second).AckSync(w.ctx))
			closeNow(t, sub)
			var lines []string
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "receive") && !strings.Contains(line, "short polling") {
					lines = append(lines, line)
					require.Contains(t, line, "stream=orders consumer=all")
				}
			}
			require.Len(t, lines, 2, "%s", log.String())
			require.Contains(t, lines[0], "could not receive")
			require.Contains(t, lines[1], "receives again")
		})
	}
}
