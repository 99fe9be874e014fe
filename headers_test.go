package sequin_test

import (
	"context"
	"fmt"
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

type headers = map[string]string

// someHeaders are headers with everything that JSON escapes.
var someHeaders = headers{"trace-id": "4bf9\"2f\\35\n", "Content_Type.v1": "é😀", "empty": ""}

// headersIn returns the headers of a stream's messages by their keys.
func (w *world) headersIn(t *testing.T, stream string) map[string]headers {
	t.Helper()
	s, ok := w.Stream(stream)
	require.True(t, ok)
	byKey := map[string]headers{}
	for _, m := range s.Messages {
		byKey[m.Key] = m.Headers
	}
	return byKey
}

// withoutHeaders runs promise against servers that do not announce headers.
func withoutHeaders(t *testing.T, promise func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("switched off", func(t *testing.T) { inDocumentedWithout(t, []string{"headers"}, promise) })
	t.Run("2024", func(t *testing.T) { inMode(t, server.Aug2024, promise) })
}

func TestEveryReadOfAMessageHasItsHeaders(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sent := []sequin.Message{{Key: "a", Data: "1", Headers: someHeaders}, {Key: "b", Data: "2"}, {Key: "c", Data: "3", Headers: headers{}}}
		_, err := w.client.SendMessages(w.ctx, "orders", sent)
		require.NoError(t, err)
		check := func(got []headers, err error) {
			t.Helper()
			require.NoError(t, err)
			require.Equal(t, []headers{someHeaders, nil, nil}, got)
		}
		listed, err := w.client.ListMessages(w.ctx, "orders", sequin.ListOptions{})
		check(each(listed, func(m sequin.StoredMessage) headers { return m.Headers }), err)
		peeked, err := w.client.PeekMessages(w.ctx, "orders", "all", sequin.ListOptions{})
		check(each(peeked, func(m sequin.PeekedMessage) headers { return m.Message.Headers }), err)
		one, err := w.client.GetMessage(w.ctx, "orders", "a")
		require.NoError(t, err)
		require.Equal(t, someHeaders, one.Headers)
		info, err := w.client.MessageInfo(w.ctx, "orders", "a")
		require.NoError(t, err)
		require.Equal(t, someHeaders, info.Message.Headers)
		received, err := w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})
		check(each(received, func(m sequin.ReceivedMessage) headers { return m.Headers }), err)
	})
}

// each returns what f returns for each element.
func each[T, R any](all []T, f func(T) R) (out []R) {
	for _, one := range all {
		out = append(out, f(one))
	}
	return out
}

func TestAPublishersHeadersReachASubscriber(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		_, err := w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		mine := headers{"n": "1"}
		require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: "a", Data: "1", Headers: mine}))
		mine["n"] = "changed after the call"
		require.NoError(t, pub.TrySendMessage(sequin.Message{Key: "b", Data: "2", Headers: someHeaders}))
		require.NoError(t, pub.Send(w.ctx, "c", "3"))
		require.NoError(t, pub.Close(w.ctx))
		sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
		require.NoError(t, err)
		want := map[string]headers{"a": {"n": "1"}, "b": someHeaders, "c": nil}
		got := map[string]headers{}
		for d := range sub.Deliveries() {
			got[d.Key] = d.Headers
			require.NoError(t, d.Ack())
			if len(got) == len(want) {
				break
			}
		}
		require.Equal(t, want, got)
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestHeadersAreRefusedWhereTheServerHasNone(t *testing.T) {
	withoutHeaders(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Data: "1"}, {Key: "b", Data: "2", Headers: someHeaders}})
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.Zero(t, w.Count(sequintest.Send))
		_, err = w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Data: "1", Headers: headers{}}})
		require.NoError(t, err, "it has no headers")
	})
}

func TestAPublisherFailsOnlyMessagesWithHeadersWhereTheServerHasNone(t *testing.T) {
	withoutHeaders(t, func(t *testing.T, w *world) {
		pub := w.orders(t, oneBatch())
		for i := range 6 {
			m := sequin.Message{Key: fmt.Sprint("k", i), Data: "x"}
			if i%3 == 1 {
				m.Headers = someHeaders
			}
			require.NoError(t, pub.SendMessage(w.ctx, m))
		}
		failures := failed(t, pub.Flush(w.ctx))
		require.Equal(t, []string{"k1", "k4"}, each(failures, func(e sequin.MessageError) string { return e.Message.Key }))
		for _, e := range failures {
			require.ErrorIs(t, e.Err, sequin.ErrUnsupported)
			require.Equal(t, someHeaders, e.Message.Headers)
		}
		require.Len(t, w.stored(t, "orders"), 4)
		require.Equal(t, 1, w.Count(sequintest.Send))
		require.ErrorIs(t, pub.SendSync(w.ctx, sequin.Message{Key: "alone", Headers: someHeaders}), sequin.ErrUnsupported)
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, 1, w.Count(sequintest.Send), "nothing was left to send")
	})
}

func TestTheFirstUseOfHeadersReadsTheStream(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		for _, send := range []func(*sequin.Client) error{
			func(c *sequin.Client) error {
				_, err := c.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Headers: someHeaders}})
				return err
			},
			func(c *sequin.Client) error {
				pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
				require.NoError(t, err)
				require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: "b", Headers: someHeaders}))
				return pub.Close(w.ctx)
			},
		} {
			c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client()})
			require.NoError(t, err)
			reads := w.Count(sequintest.GetStream)
			require.NoError(t, send(c))
			require.NoError(t, send(c))
			require.Equal(t, reads+1, w.Count(sequintest.GetStream))
		}
		require.Equal(t, map[string]headers{"a": someHeaders, "b": someHeaders}, w.headersIn(t, "orders"))
	})
}

// The server may be down when the first message with headers is sent. A Publisher retries the read as it retries a send.
func TestAPublisherRetriesTheReadBeforeTheFirstHeaders(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		for _, fault := range []sequintest.Fault{
			{CutAfter: true}, {Status: 503, Header: map[string][]string{}, Body: "<html>"}, {Status: 404, Body: "<html>"}, {Status: 403, Body: ownRefusal},
		} {
			fault.Op, fault.Count = sequintest.GetStream, 3
			c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client()})
			require.NoError(t, err)
			pub, err := c.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			failing := w.Fault(fault)
			err = pub.SendSync(w.ctx, sequin.Message{Key: "a", Headers: someHeaders})
			failing.Remove()
			if fault.Status == 403 { // Sequin's own
				require.ErrorIs(t, err, sequin.ErrUnauthorized)
				require.NoError(t, pub.Close(w.ctx))
				continue
			}
			require.NoError(t, err)
			require.NoError(t, pub.Close(w.ctx))
		}
	})
}

// A read that never succeeds ends with RetryFor, and does not outlive Close.
func TestAPublisherGivesUpTheReadBeforeTheFirstHeaders(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: w.Server.Client()})
		require.NoError(t, err)
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 503, Body: ownRefusal})
		pub, err := c.NewPublisher("orders", sequin.PublisherConfig{RetryFor: time.Minute})
		require.NoError(t, err)
		began := time.Now()
		var api *sequin.APIError
		require.ErrorAs(t, pub.SendSync(w.ctx, sequin.Message{Key: "a", Headers: someHeaders}), &api)
		require.Equal(t, 503, api.Status)
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
		require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: "b", Headers: someHeaders}))
		var unsent *sequin.UnsentError
		require.ErrorAs(t, pub.Close(endedCtx()), &unsent)
		require.Equal(t, someHeaders, unsent.Unsent[0].Headers)
		require.Zero(t, w.Count(sequintest.Send))
	})
}

// While servers are replaced one by one, one without headers may answer after one with headers has announced them.
func TestHeadersThatAnotherServerHasDroppedAreReported(t *testing.T) {
	older := sequintest.Fault{Op: sequintest.Send, Status: 200, Body: `{"data":{"published":2}}`, Acted: true, Count: 1}
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, oneBatch())
		sent := []sequin.Message{{Key: "a"}, {Key: "b", Headers: someHeaders}}
		w.Fault(older)
		_, err := w.client.SendMessages(w.ctx, "orders", sent)
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.ErrorContains(t, err, "stored without their headers")

		w.Fault(older)
		for _, m := range sent {
			require.NoError(t, pub.SendMessage(w.ctx, m))
		}
		failures := failed(t, pub.Close(w.ctx))
		require.Len(t, failures, 1)
		require.Equal(t, "b", failures[0].Message.Key)
		require.ErrorIs(t, failures[0].Err, sequin.ErrUnsupported)
		require.Equal(t, 2, w.Count(sequintest.Send))
	})
}

// Every answer refreshes what is known, so that no message is sent with headers after a server went back to an older one.
func TestAPublisherStopsSendingHeadersWhenTheServerNoLongerAnnouncesThem(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		older := map[string][]string{"Sequin-Extensions": {"fenced-acks"}}
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Header: older, Body: ownRefusal, Count: 1})
		w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 200, Acted: true, Header: older, Body: `{"id":"x","name":"orders"}`})
		require.ErrorIs(t, pub.SendSync(w.ctx, sequin.Message{Key: "a", Headers: someHeaders}), sequin.ErrUnsupported)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "b"}))
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "c", Headers: someHeaders}), "the last answer announces them again")
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, map[string]headers{"b": nil, "c": someHeaders}, w.headersIn(t, "orders"))
	})
}

// A batch with headers is retried with the same bytes, so that a server that knows its Idempotency-Key stores it once.
func TestARetriedBatchWithHeadersIsStoredOnce(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, oneBatch())
		many := headers{}
		for i := range sequin.MaxHeaders {
			many[fmt.Sprint("h", i)] = fmt.Sprint(i)
		}
		w.Fault(sequintest.Fault{Op: sequintest.Send, CutAfter: true, Count: 2})
		for i := range 10 {
			require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: fmt.Sprint(i), Headers: many}))
		}
		require.NoError(t, pub.Close(w.ctx))
		s, _ := w.Stream("orders")
		require.Len(t, s.Messages, 10)
		sends := each(w.Requests(sequintest.Send), func(r sequintest.Request) string { return string(r.Body) })
		require.Len(t, sends, 3)
		require.Len(t, slices.Compact(sends), 1)
	})
}

func TestHeadersCountInTheSizeOfABatch(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Lanes: 1, Linger: time.Hour, MaxBatchBytes: 64 << 10})
		for i := range 40 {
			require.NoError(t, pub.SendMessage(w.ctx, sequin.Message{Key: fmt.Sprint(i), Headers: headers{"h": strings.Repeat("x", 10_000)}}))
		}
		require.NoError(t, pub.Close(w.ctx))
		for _, r := range w.Requests() {
			require.LessOrEqual(t, len(r.Body), 64<<10)
		}
		require.Len(t, w.stored(t, "orders"), 40)
	})
	inDocumented(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBufferedBytes: sequin.MaxRequestBytes})
		w.Down()
		n, err := 0, error(nil)
		for ; err == nil; n++ {
			err = pub.TrySendMessage(sequin.Message{Key: "k", Headers: headers{"h": strings.Repeat("x", 16_000)}})
		}
		require.ErrorIs(t, err, sequin.ErrBufferFull)
		require.InDelta(t, sequin.MaxRequestBytes/16_050, n, 2)
		require.Error(t, pub.Close(endedCtx()))
	})
	messages := []sequin.Message{{Key: "a", Headers: someHeaders}, {Key: "b"}, {Key: "c", Headers: headers{"n": ""}}, {Key: "d", Headers: headers{}}}
	body, computed, err := sequin.EncodeSend(messages)
	require.NoError(t, err)
	require.Len(t, body, computed)
}

func TestHeadersAreChecked(t *testing.T) {
	many := func(n int) headers {
		h := headers{}
		for i := range n {
			h[fmt.Sprint("h", i)] = ""
		}
		return h
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		pub := w.orders(t, sequin.PublisherConfig{})
		for says, h := range map[string]headers{
			"has 65, at most 64": many(65), "have 16385 bytes, at most 16384": {"ab": strings.Repeat("\"", 16_383)},
			`has the name ""`: {"": "x"}, `the name "a b"`: {"a b": "x"}, `the name "é"`: {"é": "x"}, `the name "\xff"`: {"\xff": "x"},
			"not UTF-8": {"a": "\xff"}, "contains a NUL": {"a": "\x00"},
		} {
			m := sequin.Message{Key: "k", Headers: h}
			for _, err := range []error{
				pub.SendMessage(w.ctx, m), pub.TrySendMessage(m), pub.SendSync(w.ctx, m),
				second(w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a"}, m})),
			} {
				require.ErrorIs(t, err, sequin.ErrInvalidHeaders)
				require.ErrorContains(t, err, says)
				require.ErrorContains(t, err, `"k"`)
			}
			var unsent *sequin.UnsentError
			require.ErrorAs(t, pub.SendAllSync(w.ctx, []sequin.Message{m}), &unsent)
			require.Len(t, unsent.Failed, 1, "it is the message's own fault")
		}
		require.Zero(t, w.Count(sequintest.Send))
		for _, h := range []headers{many(64), {"ab": strings.Repeat("\"", 16_382)}} {
			require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "k", Headers: h}))
			require.Equal(t, h, w.headersIn(t, "orders")["k"])
		}
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestDeadLettersKeepHeadersAndRedriveRestoresThem(t *testing.T) {
	for _, opts := range []sequin.StreamOptions{{}, {OneMessagePerKey: true}} {
		inDocumented(t, func(t *testing.T, w *world) {
			w.deadStream(t)
			_, err := w.client.CreateStream(w.ctx, "orders", opts)
			require.NoError(t, err)
			_, err = w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
			require.NoError(t, err)
			_, err = w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Data: "1", Headers: someHeaders}, {Key: "b", Data: "2"}})
			require.NoError(t, err)
			sub, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
			require.NoError(t, err)
			run := w.handleFailing(t, sub, new(callLog), sequin.DeadLetter{Stream: "dead"}, sequin.Permanent(errDown))
			time.Sleep(10 * time.Second)
			require.NoError(t, run.stop())
			require.Equal(t, someHeaders, w.deadLetters(t)["a"][0].Headers)
			require.Nil(t, w.deadLetters(t)["b"][0].Headers)

			_, err = w.client.PurgeStream(w.ctx, "orders", sequin.PurgeOptions{All: true})
			require.NoError(t, err)
			done, err := w.client.Redrive(w.ctx, "dead", "reader")
			require.NoError(t, err)
			require.Equal(t, sequin.Redriven{Sent: 2}, done)
			require.Equal(t, map[string]headers{"a": someHeaders, "b": nil}, w.headersIn(t, "orders"))
		})
	}
}

func TestRedriveLeavesMessagesWhoseHeadersItCannotSend(t *testing.T) {
	inDocumentedWithout(t, []string{"headers"}, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.client.SendMessage(w.ctx, "dead", "dead.a", `{"stream":"orders","key":"a","data":"1","headers":{"n":"1"}}`)
		require.NoError(t, err)
		done, err := w.client.Redrive(w.ctx, "dead", "reader")
		require.ErrorIs(t, err, sequin.ErrUnsupported)
		require.Equal(t, sequin.Redriven{Left: 1}, done)
		require.Empty(t, w.stored(t, "orders"))
	})
}

func TestAPipelineSendsTheHeadersThatItsTransformReturns(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 0, time.Minute, sequin.SubscriberConfig{})
		_, err := w.client.SendMessages(w.ctx, "orders", []sequin.Message{{Key: "a", Data: "1", Headers: someHeaders}})
		require.NoError(t, err)
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			return []sequin.Message{{Key: d.Key, Data: d.Data, Headers: d.Headers}, {Key: "other"}}, nil
		})
		time.Sleep(10 * time.Second)
		p.end(t)
		require.Equal(t, map[string]headers{"a": someHeaders, "other": nil}, w.headersIn(t, "target"))
	})
}
