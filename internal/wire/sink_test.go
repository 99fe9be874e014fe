package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/wire"
)

// changes returns the messages of an answer of a sink.
func changes(d *wire.ChangeDecoder, body string) (got []wire.Change, err error) {
	var m wire.Change
	for d.Reset([]byte(body)); d.Next(&m); {
		got = append(got, m)
	}
	return got, d.Err()
}

func TestTheAnswerToAReceiveOfASinkIsDecodedMessageByMessage(t *testing.T) {
	const metadata = `"metadata":{"table_name":"o.rders","table_schema":"public","record_pks":["1","a.b","", 7,"é"]}`
	const key = "public.o%2Erders.1.a%2Eb.%00.7.%C3%A9"
	for _, row := range []struct {
		name, body string
		want       []wire.Change
		says       string
	}{
		{"none", `{"data":[]}`, nil, ""},
		{"nested", `{"data":[{"data": {"record":{"a": [1]},` + metadata + `} ,"ack_id":"x"}]}`,
			[]wire.Change{{"x", key, `{"record":{"a": [1]},` + metadata + `}`}}, ""},
		{"flat", `{"data":[{"ack_id":"x","record":{},` + metadata + `}]}`,
			[]wire.Change{{"x", key, `{"ack_id":"x","record":{},` + metadata + `}`}}, ""},
		{"two", `{"data":[{"ack_id":"x","data":{"metadata":{"table_name":"t"}}},{"ack_id":"y","data":{"metadata":{"table_name":"u","table_schema":"s"}}}]}`,
			[]wire.Change{{"x", "t", `{"metadata":{"table_name":"t"}}`}, {"y", "s.u", `{"metadata":{"table_name":"u","table_schema":"s"}}`}}, ""},
		{"transformed", `{"data":[{"data":{` + metadata + `},"ack_id":"x"},{"data":{"id":1},"ack_id":"y"},{"data":[1, "a"],"ack_id":"z"},{"ack_id":"n","data":null},{"data":{"metadata":7},"ack_id":"m"}]}`,
			[]wire.Change{{"x", key, `{` + metadata + `}`}, {"y", "", `{"id":1}`}, {"z", "", `[1, "a"]`}, {"n", "", "null"}, {"m", "", `{"metadata":7}`}}, ""},
		{"data that is no JSON", `{"data":[{"data":{"id":},"ack_id":"x"}]}`, nil, "no value begins"},
		{"no ack id", `{"data":[{"data":{"metadata":{"table_name":"t"}}}]}`, nil, `has no "ack_id"`},
		{"flat, without a table", `{"data":[{"ack_id":"x","record":{}}]}`, nil, `has no "table_name"`},
		{"a message of a stream", `{"data":[{"ack_id":"x","message":{"key":"k"}}]}`, nil, `has no "table_name"`},
		{"no list", `{}`, nil, `has no "data"`},
		{"truncated", `{"data":[{"ack_id":"x"`, nil, "ends inside"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var d wire.ChangeDecoder
			got, err := changes(&d, row.body)
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
