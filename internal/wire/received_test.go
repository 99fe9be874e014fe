package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/wire"
)

// decode returns the messages of an answer.
func decode(body []byte, bare bool) (got []wire.Message, err error) {
	var m wire.Message
	d := wire.Decoder{Bare: bare}
	for d.Reset(body); d.Next(&m); {
		got = append(got, m)
	}
	return got, d.Err()
}

func TestTheAnswerToAReceiveIsDecodedMessageByMessage(t *testing.T) {
	message := func(ack, key, data string) wire.Message {
		return wire.Message{AckID: ack, Key: key, Data: data}
	}
	full := wire.Message{AckID: "a", DeliverCount: 3, Key: "k", Data: "d",
		StreamID: "s", DataHash: "h", Seq: -9, InsertedAt: time.Date(2026, 11, 23, 12, 36, 41, 281190000, time.UTC),
		UpdatedAt: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	for _, row := range []struct {
		name, body string
		want       []wire.Message
		says       string // the error; "" for none
	}{
		{"none", `{"data":[]}`, nil, ""},
		{"one, with all its fields", `{"data":[{"ack_id":"a","deliver_count":3,"message":{"key":"k","data":"d","stream_id":"s",
			"data_hash":"h","seq":-9,"inserted_at":"2026-11-23T12:36:41.281190Z","updated_at":"2026-11-23T12:00:00Z"}}]}`,
			[]wire.Message{full}, ""},
		{"in the order of the answer", `{"data":[{"ack_id":"a","message":{"key":"k","data":"1"}},{"message":{"data":"2","key":"l"},"ack_id":"b"}]}`,
			[]wire.Message{message("a", "k", "1"), message("b", "l", "2")}, ""},
		{"leases that have expired", `{"data":[{"ack_id":"a","deliver_count":3,"message":{"key":"k","data":"d"},"expired_count":2}]}`,
			[]wire.Message{{AckID: "a", DeliverCount: 3, ExpiredCount: 2, Key: "k", Data: "d"}}, ""},
		{"headers", `{"data":[{"ack_id":"a","message":{"headers":{"n":"1","o":"\u00e9\n"},"key":"k"}},{"ack_id":"b","message":{"key":"l","headers":null}},
			{"ack_id":"c","message":{"key":"m","headers":{},"headers":{"n":"1","\u006e":"2"}}}]}`, []wire.Message{
			{AckID: "a", Key: "k", Headers: map[string]string{"n": "1", "o": "é\n"}}, message("b", "l", ""), {AckID: "c", Key: "m", Headers: map[string]string{"n": "2"}}}, ""},
		{"headers twice", `{"data":[{"ack_id":"a","message":{"key":"k","headers":{"m":"1"},"headers":null}}]}`, []wire.Message{message("a", "k", "")}, ""},
		{"headers a list", `{"data":[{"ack_id":"a","message":{"key":"k","headers":[]}}]}`, nil, "expected an object"},
		{"a header a number", `{"data":[{"ack_id":"a","message":{"key":"k","headers":{"n":1}}}]}`, nil, "expected a string"},
		{"nulls", `{"data":[{"ack_id":"a","deliver_count":null,"message":{"key":"k","data":null,"stream_id":null,"data_hash":null,
			"seq":null,"inserted_at":null,"updated_at":null}}]}`, []wire.Message{message("a", "k", "")}, ""},
		{"unreadable times", `{"data":[{"ack_id":"a","message":{"key":"k","inserted_at":"yesterday","updated_at":1700000000}}]}`,
			[]wire.Message{message("a", "k", "")}, ""},
		{"escapes", `{"\u0064ata":[{"ack_id":"\u0061","message":{"k\u0065y":"k","data":"\"\\\n\ud83d\ude00"}}]}`,
			[]wire.Message{message("a", "k", "\"\\\n\U0001F600")}, ""},
		{"empty body", ``, nil, "ends where a value should begin"},
		{"no data", `{"dat":[]}`, nil, `has no "data"`},
		{"a name in upper case is another field", `{"DATA":[]}`, nil, `has no "data"`},
		{"null", `null`, nil, "expected an object"},
		{"a list", `[]`, nil, "expected an object"},
		{"data null", `{"data":null}`, nil, "expected an array"},
		{"data an object", `{"data":{}}`, nil, "expected an array"},
		{"an element that is null", `{"data":[null]}`, nil, "expected an object"},
		{"a message without an ack id", `{"data":[{"message":{"key":"k"}}]}`, nil, `has no "ack_id"`},
		{"a message without a key", `{"data":[{"ack_id":"a","message":{}}]}`, nil, `has no "key"`},
		{"no message", `{"data":[{"ack_id":"a"}]}`, nil, `has no "key"`},
		{"key a number", `{"data":[{"ack_id":"a","message":{"key":1}}]}`, nil, "expected a string"},
		{"seq a fraction", `{"data":[{"ack_id":"a","message":{"key":"k","seq":1.5}}]}`, nil, "integer"},
		{"truncated", `{"data":[{"ack_id":"a","message":{"key":"k"`, nil, "ends inside"},
		{"text after the object", `{"data":[]}{}`, nil, "text after"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := decode([]byte(row.body), false)
			if row.says != "" {
				require.ErrorContains(t, err, row.says)
				require.Empty(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.want, got)
		})
	}
}

// usualValues are the members of a message in the order in which servers write them, with values that are read quickly and others.
// "" stands for a member that is missing.
var usualValues = []struct {
	before string // what is written before the value
	values []string
}{
	{`{"ack_id":`, []string{`"a"`, `"3f2a7c10-0000-4000-8000-000000000001"`, `"\u0061"`, `"é"`, `""`, `null`, `1`}},
	{`,"deliver_count":`, []string{"", "", `3`, `0`, `12`, `-1`, `null`, `01`, `1.5`, `1e2`, `9223372036854775808`, `x`}},
	{`,"message":{"key":`, []string{`"k"`, `"orders.1"`, `"\"k"`, `"ключ"`, "\"k\xff\"", `""`, `null`, "\"\n\""}},
	{`,"stream_id":`, []string{"", "", `"s"`, `"t"`, `null`, `"\n"`, `7`}},
	{`,"data_hash":`, []string{"", "", `"5/bAEXdujbfNMwtUF0/Xb30CFrYSOHpf/PuB5vCRloM="`, `null`, `"\u00e9"`, `{}`}},
	{`,"data":`, []string{"", `"d"`, `""`, `"` + strings.Repeat("x", 300) + `"`, `"{\"a\":[1,2]}"`, `"größe \ud83d\ude00"`, `null`, `7`, "\"\t\"", `"\x"`}},
	{`,"seq":`, []string{"", `1`, `123456789012345678`, `1234567890123456789`, `-9`, `null`, `"1"`}},
	{`,"inserted_at":`, []string{"", `"2026-11-23T12:36:41.281190Z"`, `"2026-11-23T12:36:41Z"`, `null`, `"yesterday"`, `5`}},
	{`,"updated_at":`, []string{"", `"2026-11-23T12:36:41.281190Z"`, `"2026-11-23T12:36:42.281190Z"`, `null`}},
	{`,"headers":`, []string{"", "", `{}`, `{"n":"1"}`, `{"n":"1","o":"\u00e9\n","p":""}`, `null`, `{"n":null}`, `[]`, `{"n":`}},
	{`}`, []string{"x"}},
	{`,"expired_count":`, []string{"", "", `2`, `null`, `x`}},
	{`}`, []string{"x"}},
}

// drawElement writes an element. Most of its values are among the first few.
func drawElement(r *rand.Rand) string {
	var b strings.Builder
	for _, m := range usualValues {
		value := m.values[r.IntN(len(m.values))]
		if r.IntN(4) > 0 {
			value = m.values[r.IntN(min(3, len(m.values)))]
		}
		if value == "x" {
			b.WriteString(m.before)
		} else if value != "" {
			b.WriteString(m.before + value)
		}
	}
	return b.String()
}

func TestMessagesInTheOrderOfServersAreReadAsByEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	read := 0
	for range 20_000 {
		body := []byte(`{"data":[` + drawElement(r) + `,` + drawElement(r) + `]}`)
		want, valid, ok := naive(body)
		require.True(t, ok)
		got, err := decode(body, false)
		require.Equal(t, valid, err == nil, "%s: %v", body, err)
		bare, bareErr := decode(body, true)
		if !valid {
			continue
		}
		read++
		require.Equal(t, want, got, "%s", body)
		require.NoError(t, bareErr)
		for i := range want {
			want[i].StreamID, want[i].DataHash = "", ""
		}
		require.Equal(t, want, bare, "%s", body)
	}
	require.Greater(t, read, 2_000)
}

func TestABareDecoderLeavesOutStreamIDAndDataHash(t *testing.T) {
	body := []byte(`{"data":[{"ack_id":"a","message":{"stream_id":"s","key":"k","data_hash":"h","data":"d"}}]}`)
	got, err := decode(body, true)
	require.NoError(t, err)
	require.Equal(t, []wire.Message{{AckID: "a", Key: "k", Data: "d"}}, got)
}

func TestLargeDataIsReadByItsSizeOrSearched(t *testing.T) {
	large := strings.Repeat("é0123456789", 100)
	for _, row := range []struct{ size, data string }{
		{fmt.Sprintf(`"size":%d,`, len(large)), large}, {"", large}, {`"size":7,`, large}, {`"size":99999,`, large},
		{`"size":2,`, "ab"}, {"", large + `\n`}, {"", `\"` + large},
	} {
		message := func(key string) string {
			return `{"ack_id":"a","message":{"key":"` + key + `",` + row.size + `"data":"` + row.data + `","seq":1,"headers":{"n":"1"}}}`
		}
		body := []byte(`{"data":[` + message("k") + "," + message("l") + `]}`)
		var want string
		require.NoError(t, json.Unmarshal([]byte(`"`+row.data+`"`), &want))
		for _, bare := range []bool{true, false} {
			got, err := decode(body, bare)
			require.NoError(t, err, row.size)
			m := wire.Message{AckID: "a", Key: "k", Data: want, Seq: 1, Headers: map[string]string{"n": "1"}}
			other := m
			other.Key = "l"
			require.Equal(t, []wire.Message{m, other}, got)
		}
	}
	got, err := decode([]byte(`{"data":[{"ack_id":"a","message":{"key":"k","data":"`+large+`","data":"short"}}]}`), true)
	require.NoError(t, err)
	require.Equal(t, "short", got[0].Data, "the last one counts")
}

func TestSizesDoNotReplaceQuotes(t *testing.T) {
	for _, data := range []string{`null"`, `"nulx`} {
		_, err := decode([]byte(`{"data":[{"ack_id":"a","message":{"key":"k","size":3,"data":`+data+`,"seq":1}}]}`), true)
		require.Error(t, err, data)
	}
}

func TestADecoderIsReusedAfterAnError(t *testing.T) {
	var d wire.Decoder
	var m wire.Message
	for _, row := range []struct {
		body string
		n    int
		says string
	}{
		{`{"data":[{"ack_id":"a","message":{"key":"k"}},{"ack_id":"b","message":{}},{"ack_id":"c","message":{"key":"k"}}]}`, 1, `has no "key"`},
		{`{}`, 0, `has no "data"`},
		{`{"data":[{"ack_id":"a","message":{"key":"k"}},{`, 1, "ends"},
		{`{"more":1,"data":[{"ack_id":"a","message":{"key":"k"}}]}`, 1, ""},
	} {
		d.Reset([]byte(row.body))
		for n := range row.n {
			require.True(t, d.Next(&m), "%s: %d", row.body, n)
		}
		for range 2 {
			require.False(t, d.Next(&m), row.body)
			if row.says == "" {
				require.NoError(t, d.Err())
			} else {
				require.ErrorContains(t, d.Err(), row.says)
			}
		}
	}
	d.Reset([]byte(`{"data":[{"ack_id":"a","message":{"key":"k"}}]}`))
	require.True(t, d.Next(&m))
	d.Reset([]byte(`["b"]`)) // in the middle of a list
	require.False(t, d.Next(&m))
	require.ErrorContains(t, d.Err(), "expected an object")
}

// A program that keeps one message must not keep the answer or other messages alive.
func TestTheStringsOfAMessageShareOneAllocation(t *testing.T) {
	body := []byte(`{"data":[{"ack_id":"aa","message":{"key":"kk","data":"dd","headers":{"n":"1"}}},{"ack_id":"bb","message":{"key":"ll","data":"ee","headers":{"n":"1"}}}]}`)
	got, err := decode(body, true)
	require.NoError(t, err)
	at := func(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }
	for _, m := range got {
		require.Equal(t, at(m.AckID)+2, at(m.Key))
		require.Equal(t, at(m.Key)+2, at(m.Data))
		require.Equal(t, at(m.Data)+3, at(m.Headers["n"]), "behind the data and the name")
	}
	clear(body)
	require.Equal(t, "aakkddbbllee", got[0].AckID+got[0].Key+got[0].Data+got[1].AckID+got[1].Key+got[1].Data)
}

// receivedJSON is the answer to a receive, for encoding/json.
type receivedJSON struct {
	Data *[]struct {
		AckID        string `json:"ack_id"`
		DeliverCount int    `json:"deliver_count"`
		ExpiredCount int    `json:"expired_count"`
		Message      struct {
			Key        string      `json:"key"`
			Data       string      `json:"data"`
			Headers    headersJSON `json:"headers"`
			StreamID   string      `json:"stream_id"`
			DataHash   string      `json:"data_hash"`
			Seq        int64       `json:"seq"`
			InsertedAt looseTime   `json:"inserted_at"`
			UpdatedAt  looseTime   `json:"updated_at"`
		} `json:"message"`
	} `json:"data"`
}

// headersJSON accepts no null as a value, and is nil for none.
type headersJSON map[string]string

func (h *headersJSON) UnmarshalJSON(text []byte) error {
	var values map[string]*string
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	*h = nil
	for name, value := range values {
		if value == nil {
			return errors.New("a header is null")
		}
		if *h == nil {
			*h = headersJSON{}
		}
		(*h)[name] = *value
	}
	return nil
}

// looseTime is zero if it cannot be read. A time without a zone, as Elixir writes naive times, is UTC.
type looseTime struct{ time.Time }

func (l *looseTime) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) != nil {
		return nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} { // Parse takes a fraction where the layout has none
		if at, err := time.Parse(layout, s); err == nil {
			l.Time = at
			return nil
		}
	}
	return nil
}

// naive decodes with encoding/json. ok is false for texts that encoding/json reads by other rules: it ignores the case of
// names, and merges repeated members.
func naive(body []byte) (got []wire.Message, valid, ok bool) {
	if !json.Valid(body) {
		return nil, false, true
	}
	if !plain(json.NewDecoder(bytes.NewReader(body))) {
		return nil, false, false
	}
	var answer receivedJSON
	if json.Unmarshal(body, &answer) != nil || answer.Data == nil {
		return nil, false, true
	}
	for _, d := range *answer.Data {
		m := d.Message
		if d.AckID == "" || m.Key == "" {
			return nil, false, true
		}
		got = append(got, wire.Message{AckID: d.AckID, DeliverCount: d.DeliverCount, ExpiredCount: d.ExpiredCount,
			Key: m.Key, Data: m.Data, Headers: m.Headers, StreamID: m.StreamID, DataHash: m.DataHash, Seq: m.Seq,
			InsertedAt: m.InsertedAt.Time, UpdatedAt: m.UpdatedAt.Time})
	}
	return got, true, true
}

// plain reports whether all names in the next value, which is valid JSON, are in lower case and unique in their object.
func plain(d *json.Decoder) bool {
	token, _ := d.Token()
	delim, container := token.(json.Delim)
	seen := map[string]bool{}
	for container && d.More() {
		if delim == '{' {
			name, _ := d.Token()
			folded := strings.ToLower(strings.ToUpper(name.(string))) // through upper case: ſ folds to s
			if seen[folded] || folded != name {
				return false
			}
			seen[folded] = true
		}
		if !plain(d) {
			return false
		}
	}
	if container {
		_, _ = d.Token()
	}
	return true
}

func FuzzDecodeReceived(f *testing.F) {
	for _, body := range []string{
		`{"data":[]}`, `{"data":[{"ack_id":"a","message":{"key":"k"}}]}`,
		`{"data":[{"ack_id":"a","deliver_count":3,"message":{"key":"k","data":"d\u00e9\"","stream_id":"s","data_hash":"h","seq":-9,"inserted_at":"2026-11-23T12:36:41.281190Z","updated_at":null}},{"ack_id":"b","message":{"key":"l","x":{"y":[1,2,{"z":null}]}}}],"more":true}`,
		`{"data":[{"ack_id":"a","message":{"key":"k","headers":{"n":"1","o":"\u00e9"}}},{"ack_id":"a","message":{"key":"k","headers":{"n":null}}}]}`,
		`{"data":[{"ack_id":"a","message":null}]}`, `{"data":null}`, ` {"data" : [ ] } `, `{"data":[{"ack_id":1}]}`,
		`{"data":[{"ack_id":"a","message":{"key":"k","inserted_at":"0000-01-01T00:00:00","updated_at":"2026-11-23T12:36:41.28119\u0030Z"}}]}`,
		`{"data":[{"ack_id":"a","message":{"key":"k","inserted_at":"2026-11-23T12:36:41,281190","updated_at":"2026-11-23T1:36:41Z"}}]}`,
		`{"data":[{"ack_id":"a","deliver_count":1e3,"message":{"key":"k","seq":9223372036854775808}}]}`, `{"data":[]`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decode(body, false)
		bare, bareErr := decode(body, true)
		want, valid, ok := naive(body)
		if !ok {
			return // only a panic is a failure
		}
		require.Equal(t, valid, err == nil, "%v", err)
		if err == nil {
			require.Equal(t, want, got)
			if bytes.Contains(body, []byte(wire.SizeMember)) {
				return // whoever wrote it is trusted
			}
			require.NoError(t, bareErr)
			for i := range want {
				want[i].StreamID, want[i].DataHash = "", ""
			}
			require.Equal(t, want, bare)
		}
	})
}
