package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// measured is a server in memory with its metrics.
type measured struct {
	*testing.T
	api *server.Server
	m   *metrics
}

func measure(t *testing.T, f func(*measured)) {
	synctest.Test(t, func(t *testing.T) {
		x := &measured{T: t, api: server.New(server.Config{}), m: newMetrics("v0", slog.New(slog.DiscardHandler))}
		defer x.api.Close()
		x.m.watch(x.api, false)
		f(x)
	})
}

// do makes a request and returns its answer.
func (x *measured) do(method, path, body string) string {
	x.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	x.api.ServeHTTP(w, r)
	require.Equal(x, 200, w.Code, w.Body)
	return w.Body.String()
}

// metrics returns those of the named streams, or all.
func (x *measured) metrics(streams ...string) string {
	x.Helper()
	w := httptest.NewRecorder()
	x.m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics?"+url.Values{"stream": streams}.Encode(), nil))
	require.Equal(x, 200, w.Code, w.Body)
	return w.Body.String()
}

func TestTheMetricsOfAConsumer(t *testing.T) {
	measure(t, func(x *measured) {
		x.do("POST", "/api/streams", `{"name":"orders"}`)
		x.do("POST", "/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">"}`)
		x.do("POST", "/api/streams/orders/messages", `{"messages":[{"key":"a","data":"1"},{"key":"b","data":"22"},{"key":"c","data":"3"}]}`)
		first := x.do("POST", "/api/streams/orders/consumers/billing/receive", `{"batch_size":2}`)
		ids := ackIDs(first)
		x.do("POST", "/api/streams/orders/consumers/billing/ack", fmt.Sprintf(`{"ack_ids":[%q]}`, ids[0]))
		x.do("POST", "/api/streams/orders/consumers/billing/nack", fmt.Sprintf(`{"ack_ids":[%q]}`, ids[1]))
		again := ackIDs(x.do("POST", "/api/streams/orders/consumers/billing/receive", `{"batch_size":2}`))
		x.do("POST", "/api/streams/orders/consumers/billing/nack", fmt.Sprintf(`{"ack_ids":[%q],"delay_ms":60000}`, again[0]))
		x.do("POST", "/api/streams/orders/consumers/billing/nack", fmt.Sprintf(`{"ack_ids":[%q],"undelivered":true}`, again[1]))
		x.do("POST", "/api/streams/orders/consumers/billing/receive", `{}`)
		time.Sleep(5 * time.Second)
		for _, text := range []string{x.metrics(), x.metrics("orders")} {
			for name, want := range map[string]any{
				"sequin_stream_sent_messages_total": 3, "sequin_stream_sent_bytes_total": 7,
				"sequin_stream_delivered_messages_total": 5, "sequin_stream_delivered_bytes_total": 12, "sequin_stream_messages": 3,
			} {
				require.Contains(t, text, fmt.Sprintf("%s{stream=\"orders\"} %v\n", name, want))
			}
			for name, want := range map[string]any{
				"backlog_messages": 2, "backlog_estimated": 0, "outstanding_messages": 1, "delayed_messages": 1, "waiting_receives": 0,
				"oldest_unsettled_seconds": 5, "deliveries_total": 5, "redeliveries_total": 1, "acks_total": 1, "nacks_total": 2,
			} {
				require.Contains(t, text, fmt.Sprintf("sequin_consumer_%s{consumer=\"billing\",stream=\"orders\"} %v\n", name, want))
			}
		}
		x.do("DELETE", "/api/streams/orders/consumers/billing", "")
		require.NotContains(t, x.metrics(), "billing")
		x.do("DELETE", "/api/streams/orders", "")
		x.do("POST", "/api/streams", `{"name":"orders"}`)
		require.Contains(t, x.metrics(), "sequin_stream_sent_messages_total{stream=\"orders\"} 0\n", "a stream of that name is another one")
	})
}

// ackIDs returns those of the answer to a receive.
func ackIDs(answer string) (ids []string) {
	for _, part := range strings.Split(answer, `"ack_id":"`)[1:] {
		ids = append(ids, part[:36])
	}
	return ids
}

// TestManyConsumersShareLabels has 150 streams with a consumer each, of which the last ones have the largest backlogs.
func TestManyConsumersShareLabels(t *testing.T) {
	measure(t, func(x *measured) {
		for i := range 150 {
			stream := fmt.Sprintf("s%03d", i)
			x.do("POST", "/api/streams", fmt.Sprintf(`{"name":%q}`, stream))
			x.do("POST", "/api/streams/"+stream+"/consumers", `{"name":"c","filter_key_pattern":">"}`)
			x.do("POST", "/api/streams/"+stream+"/messages", `{"messages":[`+strings.Repeat(`{"key":"k","data":"d"},`, i)+`{"key":"k","data":"d"}]}`)
		}
		text := x.metrics()
		require.Equal(t, maxStreamLabels+1, strings.Count(text, "sequin_consumer_backlog_messages{"))
		require.Equal(t, maxStreamLabels+1, strings.Count(text, "sequin_consumer_acks_total{"))
		require.Equal(t, maxStreamLabels+1, strings.Count(text, "sequin_stream_sent_messages_total{"))
		require.Contains(t, text, "sequin_consumer_backlog_messages{consumer=\"c\",stream=\"s149\"} 150\n")
		require.Contains(t, text, "sequin_consumer_backlog_messages{consumer=\"other\",stream=\"other\"} 1275\n", "1 + 2 + ... + 50")
		require.Contains(t, text, "sequin_stream_sent_messages_total{stream=\"other\"} 1275\n")
		one := x.metrics("s000", "s001", "none")
		require.Equal(t, 2, strings.Count(one, "sequin_consumer_backlog_messages{"))
		require.NotContains(t, one, "sequin_requests_total")
	})
}

// TestASlowStoreIsAskedForItsLargestStreams has the last of 120 streams as the largest, and one message more in it.
func TestASlowStoreIsAskedForItsLargestStreams(t *testing.T) {
	measure(t, func(x *measured) {
		x.m = newMetrics("v0", slog.New(slog.DiscardHandler))
		x.m.watch(x.api, true)
		for i := range 120 {
			stream := fmt.Sprintf("s%03d", i)
			x.do("POST", "/api/streams", fmt.Sprintf(`{"name":%q}`, stream))
			x.do("POST", "/api/streams/"+stream+"/consumers", `{"name":"c","filter_key_pattern":">"}`)
		}
		backlog := func() (string, int) {
			text := x.metrics()
			_, line, _ := strings.Cut(text, `sequin_consumer_backlog_messages{consumer="c",stream="s119"} `)
			line, _, _ = strings.Cut(line, "\n")
			return line, strings.Count(text, "sequin_consumer_acks_total{")
		}
		x.do("POST", "/api/streams/s119/messages", `{"messages":[{"key":"k","data":"d"}]}`)
		line, consumers := backlog()
		require.Equal(t, "1", line)
		require.Equal(t, maxStreamLabels, consumers)
		x.do("POST", "/api/streams/s119/messages", `{"messages":[{"key":"k","data":"d"}]}`)
		time.Sleep(usageFor - time.Millisecond)
		line, _ = backlog()
		require.Equal(t, "1", line, "kept")
		require.Contains(t, x.metrics("s119"), "sequin_consumer_backlog_messages{consumer=\"c\",stream=\"s119\"} 2\n", "one stream is asked for at once")
		time.Sleep(time.Millisecond)
		line, _ = backlog()
		require.Equal(t, "2", line)
	})
}

func TestMetricsOfTooManyStreamsAreRefused(t *testing.T) {
	measure(t, func(x *measured) {
		w := httptest.NewRecorder()
		x.m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics?"+strings.Repeat("stream=s&", maxStreamLabels+1), nil))
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), "at most 100")
	})
}

func TestACounterOfOthersNeverFalls(t *testing.T) {
	l := newLabels()
	var all []labelled
	for i := range maxStreamLabels + 2 {
		all = append(all, labelled{fmt.Sprint(i), []string{fmt.Sprint("s", i)}, counts{int64(i)}})
	}
	got := l.collect(all, true)
	require.Len(t, got, maxStreamLabels+1)
	require.Equal(t, labelled{names: []string{"other"}, counts: counts{100 + 101}}, got[maxStreamLabels])

	all[100].counts[0] += 7
	all = all[1:] // the first is deleted: 100 gets its label, and counts from what it had
	got = l.collect(all, true)
	require.Equal(t, labelled{"100", []string{"s100"}, counts{7}}, got[99])
	require.Equal(t, counts{100 + 101}, got[100].counts)
	all[99].counts[0] += 5
	require.Equal(t, counts{5 + 7}, l.collect(all, true)[99].counts)
	require.Equal(t, counts{5 + 7}, l.one(all[99]).counts)

	got = l.collect(all[:100], true) // 101 is deleted
	require.Equal(t, counts{100 + 101}, got[100].counts)

	l = newLabels()
	require.Equal(t, []labelled{{names: []string{"other"}, counts: counts{3}}}, l.collect([]labelled{{"x", []string{"other"}, counts{3}}}, true))
}

// TestABusyOneGetsTheLabelOfOneThatIsIdle checks at each step that the sum of all labels is what was counted.
func TestABusyOneGetsTheLabelOfOneThatIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLabels()
		var all []labelled
		for i := range maxStreamLabels + 3 {
			all = append(all, labelled{fmt.Sprint(i), []string{fmt.Sprint("s", i)}, counts{1}})
		}
		shown := func() (of map[string]int64) {
			of = map[string]int64{}
			for _, c := range l.collect(all, true) {
				of[c.names[0]] = c.counts[0]
			}
			return of
		}
		require.EqualValues(t, 3, shown()["other"])
		time.Sleep(idleLabel - time.Second)
		for i := range 90 {
			all[i].counts[0]++
		}
		all[100].counts[0] += 5
		require.EqualValues(t, 8, shown()["other"], "no label is free")
		time.Sleep(time.Second)
		all[100].counts[0] += 5
		all[102].counts[0] += 7
		of := shown()
		require.EqualValues(t, 5, of["s100"])
		require.EqualValues(t, 7, of["s102"])
		require.EqualValues(t, 8, of["other"], "without what came with their own labels")
		require.NotContains(t, of, "s90")
		require.NotContains(t, of, "s91")
		require.EqualValues(t, 2, of["s0"])

		all[90].counts[0] += 3 // it is one of the others now, and gets a label of another idle one
		of = shown()
		require.EqualValues(t, 3, of["s90"])
		require.EqualValues(t, 8, of["other"])
		require.NotContains(t, of, "s92")
		all = all[1:]
		require.EqualValues(t, 8, shown()["other"], "a label is free, which one gets that has counted nothing since")
		require.Len(t, shown(), maxStreamLabels+1)
	})
}

func TestTheBusiestGetsTheOnlyIdleLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLabels()
		var all []labelled
		for i := range maxStreamLabels + 3 {
			all = append(all, labelled{fmt.Sprint(i), []string{fmt.Sprint("s", i)}, counts{}})
		}
		l.collect(all, true)
		time.Sleep(idleLabel)
		for i := range maxStreamLabels - 1 {
			all[i].counts[0]++
		}
		for i, n := range []int64{3, 9, 5} {
			all[maxStreamLabels+i].counts[0] += n
		}
		got := l.collect(all, true)
		require.Equal(t, labelled{"101", []string{"s101"}, counts{9}}, got[maxStreamLabels-1])
		require.Equal(t, counts{3 + 5}, got[maxStreamLabels].counts)
	})
}

func TestWhatIsNotToldIsNotForgotten(t *testing.T) {
	l := newLabels()
	var all []labelled
	for i := range maxStreamLabels + 2 {
		all = append(all, labelled{fmt.Sprint(i), []string{fmt.Sprint("s", i)}, counts{int64(i)}})
	}
	l.collect(all, true)
	all[100].counts[0] += 7
	all = append(all[1:], all[0])
	before := l.collect(all, true)
	require.Empty(t, l.collect(nil, false))
	require.Len(t, l.collect(all[1:3], false), 2+1)
	require.Equal(t, before, l.collect(all, true))
}

// troubled is a server whose store can fail to tell of streams, or of consumers.
type troubled struct {
	*server.Server
	fail func(context.Context) error
	late bool
}

func (x *troubled) ConsumerLoads(ctx context.Context, stream string) []server.ConsumerLoad {
	if x.late {
		<-ctx.Done()
		return nil
	}
	return x.Server.ConsumerLoads(ctx, stream)
}

func (x *troubled) StreamSizes(ctx context.Context) ([]server.StreamSize, error) {
	if err := x.fail(ctx); err != nil {
		return nil, err
	}
	return x.Server.StreamSizes(ctx)
}

// counted returns the counters of streams and consumers.
func (x *measured) counted() (lines []string) {
	x.Helper()
	for line := range strings.Lines(x.metrics()) {
		if strings.Contains(line, "_total{") && strings.Contains(line, "stream=") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestAStoreThatFailsLeavesCountersAsTheyAre has a store fail at once, and not answer at all.
func TestAStoreThatFailsLeavesCountersAsTheyAre(t *testing.T) {
	works := func(context.Context) error { return nil }
	for _, row := range []struct {
		name string
		slow bool
		fail func(context.Context) error
		late bool
	}{
		{"at once", false, func(context.Context) error { return errors.New("down") }, false},
		{"at once, slow", true, func(context.Context) error { return errors.New("down") }, false},
		{"late", false, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
		{"late, slow", true, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
		{"late for consumers", true, works, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			measure(t, func(x *measured) {
				api := &troubled{x.api, works, false}
				x.m = newMetrics("v0", slog.New(slog.DiscardHandler))
				x.m.registry.MustRegister(newStreamMetrics(api, row.slow))
				for i := range maxStreamLabels + 2 {
					x.do("POST", "/api/streams", fmt.Sprintf(`{"name":"s%d"}`, i))
					x.do("POST", fmt.Sprintf("/api/streams/s%d/messages", i), `{"messages":[{"key":"k","data":"d"}]}`)
					for _, consumer := range []string{"c", "d"} {
						x.do("POST", fmt.Sprintf("/api/streams/s%d/consumers", i), fmt.Sprintf(`{"name":%q,"filter_key_pattern":">"}`, consumer))
						x.do("POST", fmt.Sprintf("/api/streams/s%d/consumers/%s/receive", i, consumer), "{}")
					}
				}
				x.counted()
				x.do("DELETE", "/api/streams/s0", "") // another one gets its label, and counts from what it had
				time.Sleep(usageFor)
				before := x.counted()
				require.NotEmpty(t, before)
				require.Contains(t, x.metrics(), "sequin_streams 101\n")
				time.Sleep(usageFor)

				api.fail, api.late = row.fail, row.late
				began := time.Now()
				require.Equal(t, row.late, strings.Contains(x.metrics(), "\nsequin_streams "), "of streams that the store does not tell there is no number")
				require.LessOrEqual(t, time.Since(began), usageTimeout)
				api.fail, api.late = works, false
				if row.late {
					time.Sleep(usageFor)
				}
				require.Equal(t, before, x.counted())
			})
		})
	}
}
