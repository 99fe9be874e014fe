package wire_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/wire"
)

func TestTheAnswerToASendIsItsNumber(t *testing.T) {
	for _, row := range []struct {
		body string
		want int
		says string // in the error; "" for none
	}{
		{`{"data":{"published":3}}`, 3, ""},
		{`{"data":{"published":0,"skipped":{"x":[1]}},"next":null}`, 0, ""},
		{`{"data":{"published":null}}`, 0, `has no "published"`},
		{`{"data":{}}`, 0, `has no "published"`},
		{`{"data":null}`, 0, "expected an object"},
		{`{"data":{"published":"3"}}`, 0, "expected a number"},
		{`{"data":{"published":3}`, 0, "ends inside"},
		{``, 0, "ends where a value should begin"},
	} {
		got, err := wire.DecodePublished([]byte(row.body))
		if row.says != "" {
			require.ErrorContains(t, err, row.says, row.body)
			continue
		}
		require.NoError(t, err, row.body)
		require.Equal(t, row.want, got, row.body)
	}
}

func TestAnAckSucceedsOnlyWithSuccess(t *testing.T) {
	require.NoError(t, wire.DecodeSettled([]byte(`{"x":1,"success":true}`)))
	for _, body := range []string{`{"success":false}`, `{}`, `null`, `<html>`, `{"success":true}x`, `{"success":"true"}`, ``} {
		require.Error(t, wire.DecodeSettled([]byte(body)), body)
	}
}

func TestBodiesAreTheJSONOfTheAPI(t *testing.T) {
	ids := wire.AppendAckID(wire.AppendAckID(wire.AppendSettleHead(nil), "a"), "b")
	require.Equal(t, `{"ack_ids":["a","b"]}`, string(wire.AppendSettleTail(ids, false, 0)))
	ids = wire.AppendAckID(wire.AppendSettleHead(nil), "a")
	require.Equal(t, `{"ack_ids":["a"],"undelivered":true}`, string(wire.AppendSettleTail(ids, true, 0)))
	ids = wire.AppendAckID(wire.AppendSettleHead(nil), "a")
	require.Equal(t, `{"ack_ids":["a"],"delay_ms":1501}`, string(wire.AppendSettleTail(ids, false, 1500*time.Millisecond+1)))
	ids = wire.AppendAckID(wire.AppendAckID(wire.AppendSettleHead(nil), "a"), "b")
	require.Equal(t, `{"ack_ids":["a","b"],"ack_wait_ms":1500}`, string(wire.AppendExtendTail(ids, 1500*time.Millisecond+1)))
	require.Equal(t, `{"request_id":"a-b"}`, string(wire.AppendEndReceive(nil, "a-b")))
	require.Equal(t, `{"batch_size":10}`, string(wire.AppendReceive(nil, 10, 0, false)))
	require.Equal(t, `{"batch_size":10,"wait_for":1500}`, string(wire.AppendReceive(nil, 10, 1500*time.Millisecond, false)))
	require.Equal(t, `{"batch_size":10,"wait_for":1500,"bare":true}`, string(wire.AppendReceive(nil, 10, 1500*time.Millisecond, true)))
}

func TestHeadersOfAMessageAreSortedByName(t *testing.T) {
	message := func(headers map[string]string) string { return string(wire.AppendMessage(nil, "k", "d", headers, 0)) }
	for range 10 { // a map has no order
		require.Equal(t, `{"key":"k","data":"d","headers":{"A":"","a":"\"1\"","b.c":"2"}},`, message(map[string]string{"b.c": "2", "A": "", "a": `"1"`}))
	}
	require.Equal(t, `{"key":"k","data":"d"},`, message(nil))
	require.Equal(t, `{"key":"k","data":"d"},`, message(map[string]string{}))
}

func FuzzSendBody(f *testing.F) {
	f.Add("k.1", "x", "k.2", "", "h", "1", "i", "2")
	f.Add("\"", "\\\n\x00", "é", "\u2028\U0001F600\xff", "\"", "\n", "\"", "\x00")
	f.Fuzz(func(t *testing.T, key1, data1, key2, data2, name1, value1, name2, value2 string) {
		headers := map[string]string{name1: value1, name2: value2}
		body := wire.AppendMessage(wire.AppendSendHead(nil), key1, data1, nil, 0)
		body = wire.AppendSendTail(wire.AppendMessage(body, key2, data2, headers, 0))
		size, clean := wire.SendOverhead+2*wire.MessageOverhead, true
		for _, s := range []string{key1, data1, key2, data2} {
			n, ok := jscan.StringSize(s)
			size, clean = size+n, clean && ok
		}
		n, ok := wire.HeadersSize(headers)
		size, clean = size+n, clean && ok
		type message struct {
			Key, Data string
			Headers   map[string]string
		}
		var sent struct{ Messages []message }
		require.NoError(t, json.Unmarshal(body, &sent), "%s", body)
		if clean {
			require.Len(t, body, size)
			require.Equal(t, []message{{key1, data1, nil}, {key2, data2, headers}}, sent.Messages)
		}
	})
}

func TestAnEmptySendHasTheSizeThatIsAskedFor(t *testing.T) {
	require.Equal(t, `{"messages":[]}`, string(wire.AppendEmptySend(nil, 0)))
	require.Equal(t, `{"messages":[]}`, string(wire.AppendEmptySend(nil, 15)))
	require.Equal(t, `{"messages":[   ]}`, string(wire.AppendEmptySend(nil, 18)))
	require.Len(t, wire.AppendEmptySend(nil, 1<<20), 1<<20)
}

func TestParseTimeReadsWhatServersWrite(t *testing.T) {
	for text, want := range map[string]time.Time{
		`"2024-08-01T02:03:04Z"`:        time.Date(2024, 8, 1, 2, 3, 4, 0, time.UTC),
		`"2024-08-01T02:03:04.000005Z"`: time.Date(2024, 8, 1, 2, 3, 4, 5000, time.UTC),
		`"2024-08-01T02:03:04.000005"`:  time.Date(2024, 8, 1, 2, 3, 4, 5000, time.UTC),
		`"2024-08-01T03:03:04+01:00"`:   time.Date(2024, 8, 1, 2, 3, 4, 0, time.UTC),
		`"2024-08-01T02:03:0x.000005Z"`: {},
		`"2024-08-01T02:03:04.00000xZ"`: {},
		`"yesterday"`:                   {},
		`""`:                            {},
		`null`:                          {},
		`7`:                             {},
		`{"iso":"2024"}`:                {},
	} {
		require.True(t, want.Equal(wire.ParseTime([]byte(text))), text)
	}
}

func TestEveryDayIsReadAsByPackageTime(t *testing.T) {
	for _, year := range []int{0, 1, 4, 99, 100, 399, 400, 1600, 1899, 1900, 1969, 1970, 1999, 2000, 2001, 2024, 2026, 2100, 9999} {
		for month := range 14 {
			for day := range 33 {
				text := fmt.Sprintf("%04d-%02d-%02dT23:59:58.000007Z", year, month, day)
				want, _ := time.Parse(time.RFC3339Nano, text) // zero for a day that does not exist
				require.Equal(t, want, wire.ParseTime([]byte(`"`+text+`"`)), text)
			}
		}
	}
}

func TestAMessageIsTheSameWhetherOrNotItsSizeIsKnown(t *testing.T) {
	for _, text := range []string{"", "plain", "é世", `"`, "\n", strings.Repeat("x", 300), strings.Repeat("x", 300) + "\\"} {
		for _, headers := range []map[string]string{nil, {"n": "1"}} {
			body := wire.AppendMessage(nil, "k"+text, text, headers, 0)
			require.Equal(t, string(body), string(wire.AppendMessage(nil, "k"+text, text, headers, len(body))))
		}
	}
}
