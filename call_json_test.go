package sequin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestA200OfAnotherServerIsAnError(t *testing.T) {
	for _, body := range []string{"", "<html>Please log in</html>", "null", "{}", "[]", `"ok"`, "7", `{"data":null}`,
		`{"data":{}}`, `{"data":7}`, `{"status":"ok"}`, `{"success":false}`, `{"deleted":false}`, `{"data":{"published":"1"}}`, `{"data":{"published":null}}`,
		`{"success":true}</html>`, `{"data":[],`} {
		t.Run(body, func(t *testing.T) {
			forEachOperation(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}}, func(t *testing.T, w *world, o operation) {
				w.Fault(sequintest.Fault{Op: o.op, Status: 200, Body: body})
				err := o.call(w.ctx, w.client)
				require.Error(t, err)
				require.Equal(t, o.changes, errors.Is(err, sequin.ErrOutcomeUnknown))
			})
		})
	}
}

func TestASendWithATruncatedAnswerReturnsNoNumber(t *testing.T) {
	for _, body := range []string{`{"data":{"published":1}`, `{"data":{"published":1}}}`, `{"data":{"published":1},"data":null}`} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sequintest.Config{}, sequin.Config{})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 200, Body: body})
			result, err := w.client.SendMessage(w.ctx, "s", "k", "1")
			require.Error(t, err)
			require.Zero(t, result, body)
		})
	}
}

func TestAReadWithALostAnswerIsRepeated(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{"truncated": {Truncate: 9}, "garbled": {Garble: true}} {
		t.Run(name, func(t *testing.T) {
			forEachOperation(t, sequin.Config{}, func(t *testing.T, w *world, o operation) {
				if o.changes {
					return // tested by TestWhatIsRepeatedAndHowOften
				}
				fault.Op, fault.Count = o.op, 1
				w.Fault(fault)
				err := o.call(w.ctx, w.client)
				if o.op == sequintest.Receive && name == "garbled" {
					require.Error(t, err)
					require.Equal(t, 1, w.Count(o.op), "each attempt would lease another batch")
					return
				}
				require.NoError(t, err)
			})
		})
	}
}

func TestAListWithARowThatIsNotSequinsIsAnError(t *testing.T) {
	forEachOperation(t, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}}, func(t *testing.T, w *world, o operation) {
		switch o.op {
		case sequintest.ListStreams, sequintest.ListConsumers, sequintest.ListMessages, sequintest.PeekMessages, sequintest.Receive:
		default:
			return
		}
		for _, body := range []string{`{"data":[null]}`, `{"data":[{}]}`, `{"data":[{"error":"busy"}]}`} {
			fault := w.Fault(sequintest.Fault{Op: o.op, Status: 200, Body: body})
			require.ErrorContains(t, o.call(w.ctx, w.client), "is not Sequin's", body)
			fault.Remove()
		}
	})
}

func TestAnUnreadableTimeIsZeroAndNotAnError(t *testing.T) {
	for text, want := range map[string]time.Time{
		`"2024-08-01T02:03:04Z"`:         time.Date(2024, 8, 1, 2, 3, 4, 0, time.UTC),
		`"2024-08-01T02:03:04.000005"`:   time.Date(2024, 8, 1, 2, 3, 4, 5000, time.UTC), // as Elixir writes times without a zone
		`"2024-08-01T03:03:04+01:00"`:    time.Date(2024, 8, 1, 2, 3, 4, 0, time.UTC),
		`"yesterday"`:                    {},
		`null`:                           {},
		`1722477784`:                     {},
		`{"iso":"2024-08-01T02:03:04Z"}`: {},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, sequintest.Config{}, sequin.Config{})
			at := `"inserted_at":` + text + `,"updated_at":` + text
			w.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: 200, Body: `{"id":"i",` + at + `}`})
			w.Fault(sequintest.Fault{Op: sequintest.GetConsumer, Status: 200, Body: `{"id":"i",` + at + `}`})
			w.Fault(sequintest.Fault{Op: sequintest.GetMessage, Status: 200, Body: `{"key":"k",` + at + `}`})
			s, err := w.client.GetStream(w.ctx, "s")
			require.NoError(t, err)
			c, err := w.client.GetConsumer(w.ctx, "s", "c")
			require.NoError(t, err)
			m, err := w.client.GetMessage(w.ctx, "s", "k")
			require.NoError(t, err)
			for _, got := range []time.Time{s.InsertedAt, s.UpdatedAt, c.InsertedAt, c.UpdatedAt, m.InsertedAt, m.UpdatedAt} {
				require.True(t, want.Equal(got), "%s gave %v", text, got)
			}
			info := `"ack_id":"a","state":"available","last_delivered_at":` + text + `,"not_visible_until":` + text
			w.Fault(sequintest.Fault{Op: sequintest.PeekMessages, Status: 200, Body: `{"data":[{"message":{"key":"k"},"info":{` + info + `}}]}`})
			w.Fault(sequintest.Fault{Op: sequintest.MessageInfo, Status: 200,
				Body: `{"data":{"message":{"key":"k"},"consumer_info":[{"consumer_id":"c","consumer_name":"all","consumer_filter_key_pattern":">",` + info + `}]}}`})
			peeked, err := w.client.PeekMessages(w.ctx, "s", "all", sequin.ListOptions{})
			require.NoError(t, err)
			shown, err := w.client.MessageInfo(w.ctx, "s", "k")
			require.NoError(t, err)
			state := sequin.DeliveryInfo{AckID: "a", State: sequin.StateAvailable, LastDeliveredAt: want, NotVisibleUntil: want}
			require.Equal(t, state, inUTC(peeked[0].Info))
			require.Equal(t, state, inUTC(shown.Consumers[0].DeliveryInfo))
			require.Equal(t, []string{"c", "all", ">"}, []string{shown.Consumers[0].ConsumerID, shown.Consumers[0].ConsumerName, shown.Consumers[0].ConsumerFilter})
		})
	}
}

func inUTC(i sequin.DeliveryInfo) sequin.DeliveryInfo {
	i.LastDeliveredAt, i.NotVisibleUntil = i.LastDeliveredAt.UTC(), i.NotVisibleUntil.UTC()
	return i
}

// A program that prints a result sees its values, and no addresses.
func TestEveryResultPrintsItsFields(t *testing.T) {
	yes, some := true, 7
	for _, result := range []any{
		sequin.Stream{Name: "orders", OneMessagePerKey: &yes, ProcessUnmodified: &yes, MaxStorageGB: &some, RetainUpTo: &some, RetainAtLeast: &some},
		[]sequin.Stream{{Name: "orders", RetainUpTo: &some}},
		sequin.Consumer{Name: "orders"}, sequin.StoredMessage{Key: "orders"}, sequin.PeekedMessage{Message: sequin.StoredMessage{Key: "orders"}},
		sequin.MessageInfo{Message: sequin.StoredMessage{Key: "orders"}, Consumers: []sequin.ConsumerInfo{{}}},
		sequin.ReceivedMessage{AckID: "orders"}, sequin.Delivery{Key: "orders", Acknowledger: &recorder{}},
		sequin.MessageError{Message: sequin.Message{Key: "orders"}, Err: errors.New("refused")}, sequin.DeadMessage{Key: "orders"},
		sequin.PublisherStats{LastError: errors.New("orders")}, sequin.SubscriberStats{LastError: errors.New("orders")},
	} {
		pointer := reflect.New(reflect.TypeOf(result))
		pointer.Elem().Set(reflect.ValueOf(result))
		for _, format := range []string{"%v", "%+v", "%s"} {
			for _, text := range []string{fmt.Sprintf(format, result), fmt.Sprintf(format, pointer.Interface())} {
				require.Contains(t, text, "orders")
				require.NotContains(t, text, "0x")
			}
		}
	}
	text := fmt.Sprint(&sequin.Stream{Name: "orders", OneMessagePerKey: &yes, RetainUpTo: &some})
	require.Contains(t, text, "Name:orders")
	require.Contains(t, text, "OneMessagePerKey:true ProcessUnmodified:<nil> MaxStorageGB:<nil> RetainUpTo:7 RetainAtLeast:<nil>")
	require.Contains(t, fmt.Sprint(sequin.Delivery{Key: "orders.1", Attempt: 2}), "Key:orders.1")
	require.Contains(t, fmt.Sprint(sequin.Delivery{Key: "orders.1", Attempt: 2}), "Attempt:2")
}

func TestAnAnswerAboveTheLimitIsAnErrorAndOneAtTheLimitIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		body := `{"data":[]}` + strings.Repeat(" ", 1000)
		w.Fault(sequintest.Fault{Op: sequintest.ListStreams, Status: 200, Body: body})
		w.client.SetMaxResponse(int64(len(body)))
		_, err := w.client.ListStreams(w.ctx)
		require.NoError(t, err)
		w.client.SetMaxResponse(int64(len(body)) - 1)
		_, err = w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrResponseTooLarge)
		require.ErrorContains(t, err, "GET /api/streams")
		require.Equal(t, 2, w.Count(sequintest.ListStreams), "a second answer would be as large")
	})
}

func TestEveryAnswerIsReadToItsEndSoThatItsConnectionIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.stream(t, "s", sequin.ConsumerOptions{})
		hc, dials := countingDials(w.Server)
		c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: hc, Retry: sequin.RetryConfig{MaxAttempts: 1}})
		require.NoError(t, err)
		for _, fault := range []sequintest.Fault{
			{}, {Status: 404, Body: `{"summary":"no"}`}, {Garble: true},
			{Status: 502, Body: `{"summary":"` + strings.Repeat("no ", 10_000) + `"}`}, {Status: 500, Body: ownRefusal},
		} {
			fault.Count = 1
			w.Fault(fault)
			_, _ = c.GetStream(w.ctx, "s")
			synctest.Wait()
		}
		require.EqualValues(t, 1, dials.Load())
	})
}

func TestUnknownFieldsOfNewerServersAreIgnored(t *testing.T) {
	for _, row := range []struct {
		op   sequintest.Op
		body string
		call func(*testing.T, *world)
	}{
		{sequintest.GetStream, `{"id":"i","name":"n","x":{"y":[1]},"stats":{"message_count":3,"p99":1.5},"one_message_per_key":false}`,
			func(t *testing.T, w *world) {
				s, err := w.client.GetStream(w.ctx, "s")
				require.NoError(t, err)
				require.Equal(t, "n", s.Name)
				require.EqualValues(t, 3, s.Stats.MessageCount)
				require.False(t, *s.OneMessagePerKey)
				require.Nil(t, s.RetainUpTo)
				require.Zero(t, s.InsertedAt)
			}},
		{sequintest.GetConsumer, `{"id":"i","http_endpoint_id":null,"max_deliver":null,"ack_wait_ms":1500,"x":[],"status":null,"inserted_at":null}`,
			func(t *testing.T, w *world) {
				c, err := w.client.GetConsumer(w.ctx, "s", "all")
				require.NoError(t, err)
				require.Equal(t, sequin.Unlimited, c.MaxDeliver)
				require.Equal(t, 1500*time.Millisecond, c.AckWait)
			}},
		{sequintest.Receive, `{"next":null,"data":[{"x":{},"ack_id":"a","trace":[{"data":[]}],"message":{"meta":{"key":"no"},"key":"k","data":"d","seq":7}}]}`,
			func(t *testing.T, w *world) {
				got, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{})
				require.NoError(t, err)
				require.Equal(t, []sequin.ReceivedMessage{{AckID: "a", StoredMessage: sequin.StoredMessage{Key: "k", Data: "d", Seq: 7}}}, got)
			}},
		{sequintest.PeekMessages, `{"data":[{"message":{"key":"k"},"info":{"ack_id":"a","last_delivered_at":null,"not_visible_until":null,"x":1}}]}`,
			func(t *testing.T, w *world) {
				got, err := w.client.PeekMessages(w.ctx, "s", "all", sequin.ListOptions{})
				require.NoError(t, err)
				require.Len(t, got, 1)
				require.Zero(t, got[0].Info.NotVisibleUntil)
			}},
		{sequintest.Send, `{"data":{"published":2,"skipped":1}}`, func(t *testing.T, w *world) {
			got, err := w.client.SendMessage(w.ctx, "s", "k", "d")
			require.NoError(t, err)
			require.Equal(t, sequin.SendResult{Published: 2}, got)
		}},
	} {
		t.Run(row.op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.Fault(sequintest.Fault{Op: row.op, Status: 200, Body: row.body})
				row.call(t, w)
			})
		})
	}
}

func TestTimesKeepTheServersPrecision(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		time.Sleep(123456789 * time.Nanosecond)
		s, c := w.stream(t, "s", sequin.ConsumerOptions{})
		now := time.Now().UTC()
		require.Equal(t, now.Truncate(time.Second), s.InsertedAt)
		require.Equal(t, now.Truncate(time.Second), c.InsertedAt)
		_, err := w.client.SendMessage(w.ctx, "s", "k", "1")
		require.NoError(t, err)
		m, err := w.client.GetMessage(w.ctx, "s", "k")
		require.NoError(t, err)
		require.Equal(t, now.Truncate(time.Microsecond), m.InsertedAt)
		require.Equal(t, now.Truncate(time.Microsecond), m.UpdatedAt)
		got, err := w.client.ReceiveMessage(w.ctx, "s", c.ID)
		require.NoError(t, err)
		require.Equal(t, *m, got.StoredMessage)
	})
}

func TestAMessageIsReceivedAsItWasSent(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		sent := map[string]string{
			`{}[]"\'` + "`?#%/&=+;:@!$|~^_-": "a key of punctuation",
			"empty":                          "",
			"quotes":                         `{"a":"b\"c\\d"}`,
			"controls":                       "\x01\b\f\n\r\t\x1f\x7f",
			"wide":                           "é漢\U0001F600\uFFFD\u2028",
			"html":                           "<script>&amp;",
			"long":                           strings.Repeat("long \"text\" ", 50_000),
		}
		var messages []sequin.Message
		for key, data := range sent {
			messages = append(messages, sequin.Message{Key: key, Data: data})
		}
		result, err := w.client.SendMessages(w.ctx, "s", messages)
		require.NoError(t, err)
		require.Equal(t, len(sent), result.Published)
		for key, data := range sent {
			m, err := w.client.GetMessage(w.ctx, "s", key)
			require.NoError(t, err, key)
			require.Equal(t, data, m.Data)
			info, err := w.client.MessageInfo(w.ctx, "s", key)
			require.NoError(t, err, key)
			require.Equal(t, *m, info.Message)
		}
		got, err := w.client.ReceiveMessages(w.ctx, "s", "all", sequin.ReceiveOptions{BatchSize: 100})
		require.NoError(t, err)
		for _, m := range got {
			require.Equal(t, sent[m.Key], m.Data)
			delete(sent, m.Key)
		}
		require.Empty(t, sent)
	})
}

// A program may want to log or store a stream as JSON.
func TestAStreamMarshalsAsTheServerWritesIt(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		s, _ := w.stream(t, "s", sequin.ConsumerOptions{})
		text, err := json.Marshal(s)
		require.NoError(t, err)
		var again sequin.Stream
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, *s, again)
	})
}
