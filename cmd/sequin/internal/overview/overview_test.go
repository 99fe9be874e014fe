package overview_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// watched is a server with a stream "orders", which has a consumer "billing", and a Watcher of it.
type watched struct {
	*testing.T
	srv     *sequintest.Server
	client  *sequin.Client
	watcher *overview.Watcher
	metrics string // the answer of the server; "" for none
	asked   []string
}

func watch(t *testing.T, cfg sequintest.Config, f func(w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{T: t, srv: sequintest.NewServer(t, cfg)}
		client, err := sequin.NewClient(sequin.Config{BaseURL: w.srv.URL, HTTPClient: w.srv.Client()})
		require.NoError(t, err)
		defer client.Close()
		w.client = client
		w.watcher = overview.New(overview.Config{Client: client, Metrics: w.source, History: 3})
		_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		f(w)
	})
}

func (w *watched) source(_ context.Context, streams ...string) (io.ReadCloser, error) {
	w.asked = append(w.asked, strings.Join(streams, ","))
	if w.metrics == "" {
		return nil, overview.ErrNoMetrics
	}
	return io.NopCloser(strings.NewReader(w.metrics)), nil
}

func (w *watched) send(n int) {
	w.Helper()
	for i := range n {
		_, err := w.client.SendMessage(w.Context(), "orders", fmt.Sprint("k", i), "{}")
		require.NoError(w, err)
	}
}

func (w *watched) streams() *overview.Streams {
	w.Helper()
	got, err := w.watcher.Streams(w.Context())
	require.NoError(w, err)
	return got
}

func (w *watched) stream() *overview.Detail {
	w.Helper()
	got, err := w.watcher.Stream(w.Context(), "orders")
	require.NoError(w, err)
	return got
}

func TestWithoutMetricsTheNumberOfMessagesTellsTheRate(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		first := w.streams()
		require.Equal(t, sequin.ServerExtended, first.Server.Kind)
		require.True(t, first.Server.Has("purge"))
		require.False(t, first.Server.Metrics)
		require.False(t, first.Streams[0].In.Known)
		w.send(6)
		time.Sleep(2 * time.Second)
		second := w.streams().Streams[0]
		require.Equal(t, overview.Rate{Known: true, Now: 3, History: []float64{3}}, second.In)
		require.False(t, second.Out.Known)
		require.Equal(t, int64(6), second.Stats.MessageCount)
	})
}

func TestAnAnswerIsGivenAgainForASecond(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		first := w.streams()
		time.Sleep(overview.DefaultMinInterval - time.Millisecond)
		require.Same(t, first, w.streams())
		require.Len(t, w.asked, 1)
		time.Sleep(time.Millisecond)
		require.NotSame(t, first, w.streams())
		require.Len(t, w.asked, 2)
		w.watcher.Changed()
		w.streams()
		require.Len(t, w.asked, 3, "a change makes it old")
	})
}

func TestTheMetricsTellWhatAConsumerHasToDo(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		metrics := func(sent, delivered, again int) {
			labels := `{consumer="billing",stream="orders"}`
			w.metrics = fmt.Sprintf("# TYPE sequin_stream_sent_messages_total counter\nsequin_stream_sent_messages_total{stream=\"orders\"} %d\n"+
				"sequin_consumer_backlog_messages%s 7\nsequin_consumer_backlog_estimated%s 1\nsequin_consumer_outstanding_messages%s 3\n"+
				"sequin_consumer_oldest_unsettled_seconds%s 90.5\nsequin_consumer_deliveries_total%s %d\nsequin_consumer_redeliveries_total%s %d\n",
				sent, labels, labels, labels, labels, labels, delivered, labels, again)
		}
		metrics(10, 100, 0)
		first := w.stream()
		require.Equal(t, []string{"orders"}, w.asked)
		require.True(t, first.Server.Metrics)
		metrics(30, 140, 10)
		time.Sleep(2 * time.Second)
		got := w.stream()
		require.Equal(t, 10.0, got.Stream.In.Now)
		c := got.Consumers[0]
		require.Equal(t, "billing", c.Name)
		require.Equal(t, []any{true, int64(7), true, int64(3), int64(0)}, []any{c.Measured, c.Backlog, c.Estimated, c.Outstanding, c.Delayed})
		require.Equal(t, 90*time.Second+500*time.Millisecond, c.OldestAge)
		require.Equal(t, 20.0, c.Deliveries.Now)
		require.Equal(t, 0.25, c.RedeliveryShare())
		require.False(t, c.Acks.Known)
	})
}

// TestARestartOfTheServerIsNoNegativeRate also holds how many rates are kept.
func TestARestartOfTheServerIsNoNegativeRate(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		var got overview.Rate
		for _, sent := range []int{10, 12, 15, 19, 4} {
			w.metrics = fmt.Sprintf("# TYPE sequin_stream_sent_messages_total counter\nsequin_stream_sent_messages_total{stream=\"orders\"} %d\n", sent)
			got = w.streams().Streams[0].In
			time.Sleep(time.Second)
		}
		require.Equal(t, overview.Rate{Known: true, Now: 4, History: []float64{3, 4, 4}}, got)
	})
}

func TestWithoutMetricsAPeekTellsTheAgeOfTheOldestMessage(t *testing.T) {
	for _, cfg := range []sequintest.Config{{}, {Compat: server.Aug2024}} {
		watch(t, cfg, func(w *watched) {
			c := w.stream().Consumers[0]
			require.True(t, c.OldestKnown)
			require.Zero(t, c.OldestAge)
			w.send(1)
			time.Sleep(time.Minute)
			c = w.stream().Consumers[0]
			require.Equal(t, time.Minute, c.OldestAge)
			require.False(t, c.Measured)
		})
	}
}

func TestMessagesComeInPages(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		w.send(5)
		seqs := func(q overview.Query) (out []int64) {
			got, err := w.watcher.Messages(w.Context(), "orders", q)
			require.NoError(t, err)
			for _, m := range got {
				out = append(out, m.Seq)
			}
			return out
		}
		require.Equal(t, []int64{5, 4}, seqs(overview.Query{Limit: 2}))
		require.Equal(t, []int64{3, 2}, seqs(overview.Query{Limit: 2, Beyond: 4}))
		require.Equal(t, []int64{3, 4}, seqs(overview.Query{Limit: 2, Beyond: 2, Oldest: true}))
		require.Equal(t, []int64{2}, seqs(overview.Query{Pattern: "k1"}))
		unsettled, err := w.watcher.Unsettled(w.Context(), "orders", "billing", overview.Query{Beyond: 3})
		require.NoError(t, err)
		require.Equal(t, int64(4), unsettled[0].Message.Seq)
	})
}

// TestAnOlderMessageOfAKey has a consumer that has settled the first of two messages of a key.
func TestAnOlderMessageOfAKey(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		_, err := w.client.SendMessages(w.Context(), "orders", []sequin.Message{{Key: "k", Data: "old"}, {Key: "k", Data: "new"}})
		require.NoError(t, err)
		at := func(seq int64) (string, string) {
			info, newest, err := w.watcher.MessageAt(w.Context(), "orders", "k", seq)
			require.NoError(t, err)
			require.Equal(t, int64(2), newest)
			return info.Message.Data, info.Consumers[0].State
		}
		data, state := at(1)
		require.Equal(t, []string{"old", "available"}, []string{data, state})
		data, state = at(2)
		require.Equal(t, []string{"new", "withheld"}, []string{data, state})
		got, err := w.client.ReceiveMessage(w.Context(), "orders", "billing")
		require.NoError(t, err)
		require.NoError(t, w.client.AckMessage(w.Context(), "orders", "billing", got.AckID))
		_, state = at(1)
		require.Equal(t, "acked", state)
		_, _, err = w.watcher.MessageAt(w.Context(), "orders", "k", 3)
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorContains(t, err, "the newest of its key has the seq 2")
	})
}

func TestAStreamThatDoesNotExistIsNotFound(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		_, err := w.watcher.Stream(w.Context(), "none")
		require.ErrorIs(t, err, sequin.ErrNotFound)
	})
}

// TestOneQuestionAnswersAllWhoAsk has ten pages that ask at once.
func TestOneQuestionAnswersAllWhoAsk(t *testing.T) {
	watch(t, sequintest.Config{}, func(w *watched) {
		var done atomic.Int32
		for range 10 {
			go func() {
				if _, err := w.watcher.Stream(w.Context(), "orders"); err == nil {
					done.Add(1)
				}
			}()
		}
		synctest.Wait()
		require.Equal(t, int32(10), done.Load())
		require.Len(t, w.asked, 1)
	})
}

func TestMetricsAreAskedWithTheToken(t *testing.T) {
	var got *http.Request
	status, kind := http.StatusOK, "text/plain; version=0.0.4"
	client := &http.Client{Transport: roundTrip(func(r *http.Request) *http.Response {
		got = r
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader("x 1\n"))}
	})}
	source := overview.HTTPMetrics(client, "http://server/", func() (string, error) { return "secret", nil })
	body, err := source(t.Context(), "a", "b&c")
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "http://server/metrics?stream=a&stream=b%26c", got.URL.String())
	require.Equal(t, "Bearer secret", got.Header.Get("Authorization"))
	for _, status = range []int{401, 403, 404} {
		_, err = source(t.Context())
		require.ErrorIs(t, err, overview.ErrNoMetrics, status)
	}
	status = 503
	_, err = source(t.Context())
	require.ErrorContains(t, err, "503")
	status, kind = 200, "text/html"
	_, err = source(t.Context())
	require.ErrorIs(t, err, overview.ErrNoMetrics, "a page that a proxy has put there")
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func TestTextOfOthersActsOnNothing(t *testing.T) {
	for text, want := range map[string]string{
		"plain ö 漢":           "plain ö 漢",
		"\x1b[31mred\x07":     `\x1b[31mred\x07`,
		"a\u202egnp.exe":      `a\u202egnp.exe`,
		"zero\u200bwidth":     `zero\u200bwidth`,
		"bad\xff":             `bad\xff`,
		"c1\u009b31m":         `c1\u009b31m`,
		"tag\U000e0041":       `tag\U000e0041`,
		"two\r\nlines\tand\n": `two\x0d\x0alines\x09and\x0a`,
	} {
		require.Equal(t, want, overview.Visible(text, false))
	}
	require.Equal(t, "two\\x0d\nlines\t", overview.Visible("two\r\nlines\t", true))
	require.Equal(t, "{\n  \"a\": 1\n}", overview.Pretty(`{"a":1}`))
	require.Equal(t, `{"a":`, overview.Pretty(`{"a":`))
}
